package password

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCommonPasswords(t *testing.T) {
	for _, bad := range []string{
		"password1234", "Password!2024", "P@ssw0rd1234", "passwordpassword", "letmein-letmein", "iloveyou2024!!", "qwertyuiop123", "qwertzuiop12!",
		"1q2w3e4r5t6y", "123456789012", "987654321098", "abcdefghijkl", "zyxwvutsrqpo", "Administrator1", "adminadminadmin", "Dragon.Monkey.99", "welcome-2026-welcome",
		"novacron12345", "correcthorsebatterystaple", "abcde1abcde1abcde1", "!@#$%^&*()_+", "trustno1trustno1", "Summer2026!!", "Summer-Winter-2026",
	} {
		if Complaint(bad, "ada", "") == "" {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, own := range []string{"hopperine2026", "Hopperine!!!!1", "grace.murray1906"} {
		if Complaint(own, "hopperine", "grace.murray@example.org") == "" {
			t.Errorf("%q, the name with a year, is taken", own)
		}
	}
	for _, good := range []string{
		"correct horse battery staple", "left by who died here", "not the password at all", "kT9-vqL2-xmB7-wz", "einGanzAnderesWort", "Хорошийпароль12", "moss under the third bridge",
		"jkq4hzp9wnv2", strings.Repeat("passwordq", 20), Generate(),
	} {
		if complaint := Complaint(good, "ada", "ada@example.org"); complaint != "" {
			t.Errorf("%q %s", good, complaint)
		}
	}
}

func TestListIsInOrder(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(commonText, "\n"), "\n")
	if len(lines) < 3000 || !slices.IsSorted(lines) || len(common()) != len(lines) {
		t.Errorf("%d lines, sorted %v, %d different", len(lines), slices.IsSorted(lines), len(common()))
	}
	for _, l := range lines {
		if len(l) < shortestWord || len(l) > longestWord || l != strings.ToLower(l) {
			t.Errorf("line %q can never match", l)
		}
	}
}

// The longest password that is looked at must not keep a server busy.
func TestCommonCheckIsQuick(t *testing.T) {
	for _, text := range []string{strings.Repeat("a", MaxBytes), strings.Repeat("password", MaxBytes/8), strings.Repeat("1a", MaxBytes/2), strings.Repeat("é", MaxBytes/2)} {
		begun := time.Now()
		isCommon(text, strings.Repeat("a", 255))
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%.10q… takes %s", text, took)
		}
	}
}

func FuzzComplaint(f *testing.F) {
	f.Add("password1234", "ada", "ada@example.org")
	f.Add("\xff\x00é", "", "@")
	f.Fuzz(func(t *testing.T, password, username, email string) {
		if len(password) <= 4*MaxBytes {
			_ = Complaint(password, username, email)
		}
	})
}
