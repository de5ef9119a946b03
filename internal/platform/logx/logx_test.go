package logx_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/platform/logx"
)

func logTo(t *testing.T, opts logx.Options) (*slog.Logger, *slog.LevelVar, *bytes.Buffer) {
	t.Helper()
	var b bytes.Buffer
	opts.Writer = &b
	log, level, err := logx.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return log, level, &b
}

func line(t *testing.T, b *bytes.Buffer) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(b.Bytes(), &m); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	b.Reset()
	return m
}

type requestKey struct{}

func TestContextAttributes(t *testing.T) {
	find := func(ctx context.Context) string { id, _ := ctx.Value(requestKey{}).(string); return id }
	log, _, b := logTo(t, logx.Options{Context: []logx.Extractor{logx.FromString("request_id", find)}})
	ctx := context.WithValue(t.Context(), requestKey{}, "r-1")
	logx.ForModule(log, "vm").InfoContext(ctx, "done")
	got := line(t, b)
	if got["request_id"] != "r-1" || got["module"] != "vm" {
		t.Errorf("got %v", got)
	}
	log.InfoContext(ctx, "said by hand", "request_id", "r-2")
	if n := strings.Count(b.String(), `"request_id"`); n != 1 {
		t.Errorf("request_id is there %d times: %s", n, b)
	}
	if got = line(t, b); got["request_id"] != "r-2" {
		t.Errorf("got %v", got)
	}
	log.Info("no request")
	if got = line(t, b); got["request_id"] != nil {
		t.Errorf("got %v", got)
	}
}

// laterSecret gives its value when it is written.
type laterSecret string

func (s laterSecret) LogValue() slog.Value {
	return slog.GroupValue(slog.String("password", string(s)))
}

func TestRedaction(t *testing.T) {
	log, _, b := logTo(t, logx.Options{Format: logx.FormatJSON})
	const secret = "hunter2hunter2"
	log.With("api_key", secret, slog.Group("session", "token", secret)).WithGroup("login").Info("try with bearer "+secret,
		"password", secret, "Authorization", "Bearer "+secret, "new-password", secret, "refreshToken", secret, "user_data", secret,
		slog.Group("cookie", "value", secret),
		"url", "postgres://nova:"+secret+"@db.example:5432/nova?sslmode=require",
		"error", errors.New("dial redis://:"+secret+"@cache:6379: refused"),
		"header", "authorization: bearer "+secret,
		"text", "key nck_abcdefghijkl_"+secret+" was sent",
		slog.Group("deep", slog.Group("deeper", "secret", secret), "text", "basic is not bearer "+secret),
		"later", laterSecret(secret), "secret_later", laterSecret("x"),
		"note", "sent eyJhbGciOiJSUzI1NiJ9."+secret+"."+secret,
		"api_key_id", "k-9", "password_file", "/var/lib/novacron/initial-admin-password", "token_id", "t-7", "username", "ada",
	)
	log.WithGroup("credentials").WithGroup("of").With("first", secret).Info("two", "second", secret, slog.Group("third", "fourth", secret))
	if strings.Contains(b.String(), "hunter2") {
		t.Errorf("a secret is in the log: %s", b)
	}
	for _, want := range []string{"initial-admin-password", `"api_key_id":"k-9"`, "key nck_abcdefghijkl_[redacted] was", `"token_id":"t-7"`, `"username":"ada"`, "db.example:5432/nova", "cache:6379: refused"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is missing: %s", want, b)
		}
	}
}

func TestFormatsAndLevels(t *testing.T) {
	log, level, b := logTo(t, logx.Options{Format: logx.FormatText, Level: "warn"})
	log.Info("quiet")
	if b.Len() != 0 {
		t.Errorf("logged below the level: %s", b)
	}
	level.Set(slog.LevelDebug)
	log.Debug("loud")
	if !strings.Contains(b.String(), "msg=loud") {
		t.Errorf("not text: %s", b)
	}
	log, _, b = logTo(t, logx.Options{Format: logx.FormatAuto})
	log.Info("not a terminal")
	line(t, b)
	for _, opts := range []logx.Options{{Format: "xml"}, {Level: "shout"}} {
		if _, _, err := logx.New(opts); err == nil {
			t.Errorf("%+v was accepted", opts)
		}
	}
}
