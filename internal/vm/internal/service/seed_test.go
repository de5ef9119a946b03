package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

// TestCheckUserData tries what cloud-init takes, though stricter readers of YAML do not, and what it would pass over in silence.
func TestCheckUserData(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("#cloud-config\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 9; i++ {
		alias := fmt.Sprintf("*a%d ", i-1)
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i, i, strings.Join([]string{alias, alias, alias, alias, alias, alias, alias, alias, alias, alias}, ","))
	}
	for name, test := range map[string]struct {
		userData string
		refusal  string // a part of it; empty when it is taken
	}{
		"modules":               {userData: "#cloud-config\nruncmd: [\"echo hello\"]\n"},
		"only the header":       {userData: "#cloud-config\n"},
		"an empty document":     {userData: "#cloud-config\n~\n"},
		"windows line ends":     {userData: "#cloud-config\r\nruncmd: []\r\n"},
		"a key told twice":      {userData: "#cloud-config\nfs_setup: []\nfs_setup: []\n"},
		"a key that is no text": {userData: "#cloud-config\n1: a\n"},
		"loose base64":          {userData: "#cloud-config\nwrite_files: [{content: !!binary \"not base64!\"}]\n"},
		"an alias":              {userData: "#cloud-config\na: &a [x]\nb: *a\n"},
		"the longest list":      {userData: "#cloud-config\na: [" + strings.Repeat("x,", 32<<10) + "]\n"},
		"a script":              {userData: "#!/bin/sh\necho [\n"},
		"nothing":               {userData: " \n"},
		"an archive":            {userData: "#cloud-config-archive\n- content: x\n"},
		"a patch":               {userData: "#cloud-config-jsonp\n[]\n"},
		"a boot hook":           {userData: "#cloud-boothook\n#!/bin/sh\n"},
		"an address":            {userData: "#include\nhttps://example.org/site\n"},
		"an address, once":      {userData: "#include-once\nhttps://example.org/site\n"},
		"a handler":             {userData: "#part-handler\n\ndef list_types(): return []\n"},
		"an upstart job":        {userData: "#upstart-job\ndescription \"x\"\n"},
		"a jinja template":      {userData: "## template: jinja\n#cloud-config\n{% if 1 %}a: [{% endif %}\n"},
		"MIME":                  {userData: "MIME-Version: 1.0\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n"},
		"MIME, type first":      {userData: "Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\n\n--x--\n"},
		"MIME with more":        {userData: "From: nobody\nMime-Version: 1.0\n\nx\n"},
		"capitals after blanks": {userData: "\n #Cloud-Config\na: b\n"},
		"no YAML after blanks":  {userData: "\n#cloud-config\na: [\n", refusal: "YAML"},
		"a word":                {userData: "hello\n", refusal: "must begin with #cloud-config, "},
		"no first line":         {userData: "runcmd: [\"echo hello\"]\n", refusal: "no kind that cloud-init knows"},
		"a misspelt first line": {userData: "# cloud-config\nruncmd: []\n", refusal: "no kind that cloud-init knows"},
		"a byte order mark":     {userData: "\ufeff#cloud-config\nruncmd: []\n", refusal: "no kind that cloud-init knows"},
		"a MIME header too far": {userData: strings.Repeat("x", maxMIMEHeader) + "\nMIME-Version: 1.0\n", refusal: "no kind that cloud-init knows"},
		"broken":                {userData: "#cloud-config\na: b\nc: [d\ne: f\n", refusal: "line "},
		"a list":                {userData: "#cloud-config\n- a\n", refusal: "mapping"},
		"a sentence":            {userData: "#cloud-config\nhello\n", refusal: "mapping"},
		"a bomb":                {userData: bomb.String(), refusal: "aliases"},
		"an endless alias":      {userData: "#cloud-config\na: &a\n  b: *a\n", refusal: "aliases"},
		"deeper than a parser":  {userData: "#cloud-config\na: " + strings.Repeat("[", 30000), refusal: "YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkUserData(test.userData, "body.user_data", vm.ErrInvalid)
			if test.refusal == "" {
				if err != nil {
					t.Fatalf("refused: %+v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("taken")
			}
			var problem *errs.Error
			if !errors.As(err, &problem) || len(problem.Fields) != 1 || !strings.Contains(problem.Fields[0].Message, test.refusal) {
				t.Errorf("refused with %+v, which does not tell %q of one field", err, test.refusal)
			}
		})
	}
}

// What cloud-init's own documentation shows is taken, all of it.
func TestPublishedExamplesAreTaken(t *testing.T) {
	raw, err := os.ReadFile("testdata/cloud-config-examples.json")
	if err != nil {
		t.Fatal(err)
	}
	var examples map[string]string
	if err := json.Unmarshal(raw, &examples); err != nil {
		t.Fatal(err)
	}
	if len(examples) < 100 {
		t.Fatalf("only %d", len(examples))
	}
	for name, text := range examples {
		if err := checkUserData(text, "body.user_data", vm.ErrInvalid); err != nil {
			t.Errorf("%s: %v %+v", name, err, errs.From(err).Fields)
		}
	}
}
