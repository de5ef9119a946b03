package apiclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Sessions keeps the tokens of a person's logins in a file that only they can read, by server.
type Sessions struct{ file string }

// OpenSessions finds the file in the person's configuration folder. It need not exist.
func OpenSessions() (*Sessions, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find configuration folder: %w", err)
	}
	return &Sessions{file: filepath.Join(dir, "novacron", "sessions.json")}, nil
}

func (s *Sessions) read() (map[string]Tokens, error) {
	content, err := os.ReadFile(s.file)
	if errors.Is(err, os.ErrNotExist) {
		return map[string]Tokens{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	all := map[string]Tokens{}
	if err := json.Unmarshal(content, &all); err != nil {
		return nil, fmt.Errorf("read sessions in %s: %w; remove the file and log in again", s.file, err)
	}
	return all, nil
}

// Get gives the tokens for a server, or none.
func (s *Sessions) Get(server string) (Tokens, error) {
	all, err := s.read()
	return all[server], err
}

// Set keeps tokens for a server; empty ones are forgotten. The file is replaced whole, so a crash leaves the old or the new one.
func (s *Sessions) Set(server string, t Tokens) error {
	all, err := s.read()
	if err != nil {
		return err
	}
	if t == (Tokens{}) {
		delete(all, server)
	} else {
		all[server] = t
	}
	content, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode sessions: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(s.file), 0o700); err != nil {
		return fmt.Errorf("make folder of sessions: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(s.file), "sessions-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("write sessions: %w", err)
	}
	defer os.Remove(temp.Name()) // gone already after the rename
	if _, err := temp.Write(content); err != nil {
		return errors.Join(fmt.Errorf("write sessions: %w", err), temp.Close())
	}
	if err := temp.Close(); err != nil {
		return fmt.Errorf("write sessions: %w", err)
	}
	if err := os.Rename(temp.Name(), s.file); err != nil {
		return fmt.Errorf("write sessions: %w", err)
	}
	return nil
}
