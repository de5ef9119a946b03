package archtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/novacron/novacron/"

var modules = []string{"auth", "vm", "federation", "monitoring", "scheduler", "gateway"}

// arrows is the module graph: who may import whose contract. The other direction is an event.
var arrows = map[string][]string{
	"gateway":    {"auth"},
	"vm":         {"auth", "scheduler"},
	"scheduler":  {"monitoring"},
	"federation": {"auth", "vm", "scheduler", "monitoring"},
	"monitoring": {"auth"},
	"auth":       {},
}

type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	GoFiles      []string
	Dir          string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,GoFiles,Dir", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// rule forbids an import except for the packages that match allowed.
type rule struct {
	name      string
	forbidden *regexp.Regexp
	allowed   *regexp.Regexp // import paths without the module prefix
	tests     bool           // test files are held to it too
}

var rules = []rule{
	{"pgx stays in stores, generated queries, platform/pg and the operation engine, so that no other code sees a transaction",
		regexp.MustCompile(`^github\.com/jackc/pgx/`),
		regexp.MustCompile(`^internal/(platform/(pg|operation)(/|$)|[a-z]+/internal/(store|[a-z]+db)$|[a-z]+/[a-z]+module$)`), false},
	{"River delivers the jobs of the operation engine and nothing else",
		regexp.MustCompile(`^github\.com/riverqueue/`), regexp.MustCompile(`^internal/platform/operation(/|$)`), true},
	{"libvirt types stay in the libvirt driver, so that no interface depends on them",
		regexp.MustCompile(`^libvirt\.org/go/`), regexp.MustCompile(`^internal/vm/internal/driver/libvirt$`), true},
	{"one place reads the configuration", regexp.MustCompile(`^github\.com/spf13/viper`), regexp.MustCompile(`^internal/config$`), true},
	{"Redis hides behind the cache interface", regexp.MustCompile(`^github\.com/redis/`), regexp.MustCompile(`^internal/platform/cache$`), true},
	{"OpenTelemetry hides behind tracing, where attributes are looked at for secrets",
		regexp.MustCompile(`^go\.opentelemetry\.io/`), regexp.MustCompile(`^internal/platform/tracing(/|$)`), true},
	{"huma has one main maintainer, so it hides behind httpx", regexp.MustCompile(`^github\.com/danielgtaylor/huma`), regexp.MustCompile(`^internal/platform/httpx$`), true},
	{"protobuf and gRPC stay where contracts are converted, so that no module knows whether another one is far away",
		regexp.MustCompile(`^google\.golang\.org/(grpc|protobuf)(/|$)`),
		regexp.MustCompile(`^internal/([a-z]+/[a-z]+grpc(/[a-z]+pb)?$|platform/(grpcx|tracing/otlp)(/|$))`), true},
	{"modules are told their configuration; only the composition root reads it",
		regexp.MustCompile(`^` + module + `internal/config$`), regexp.MustCompile(`^(internal/(app(/|$)|config$)|cmd/novacron)`), false},
	{"module packages are put together in one place",
		regexp.MustCompile(`^` + module + `internal/[a-z]+/[a-z]+module$`), regexp.MustCompile(`^internal/(app(/|$)|config$|[a-z]+/[a-z]+module$)`), false},
}

func TestForbiddenImports(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, r := range rules {
			if r.allowed.MatchString(name) {
				continue
			}
			imports := p.Imports
			if r.tests {
				imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
			}
			for _, imported := range imports {
				if r.forbidden.MatchString(imported) {
					t.Errorf("%s imports %s: %s", name, imported, r.name)
				}
			}
		}
	}
}

// moduleOf tells which module an import path belongs to and whether it is that module's contract.
func moduleOf(path string) (name string, contract bool) {
	rest, ok := strings.CutPrefix(path, module+"internal/")
	if !ok {
		return "", false
	}
	name, inner, nested := strings.Cut(rest, "/")
	if !slices.Contains(modules, name) {
		return "", false
	}
	return name, !nested || inner == ""
}

func TestModulesMeetAtContractsOnly(t *testing.T) {
	for _, p := range packages(t) {
		from, _ := moduleOf(p.ImportPath)
		if from == "" {
			continue
		}
		for _, imported := range p.Imports {
			to, contract := moduleOf(imported)
			if to == "" || to == from {
				continue
			}
			if !contract {
				t.Errorf("%s imports %s: another module is known by its contract alone", p.ImportPath, imported)
			}
			if !slices.Contains(arrows[from], to) {
				t.Errorf("%s imports %s: the module graph has no arrow from %s to %s; that direction is an event", p.ImportPath, imported, from, to)
			}
		}
	}
}

// A contract is a leaf: it must be possible to implement and to call it from anywhere.
func TestContractsAreLeaves(t *testing.T) {
	ours := regexp.MustCompile(`^` + module + `internal/(platform/(errs|identity)|bus)$`)
	for _, p := range packages(t) {
		if _, contract := moduleOf(p.ImportPath); !contract {
			continue
		}
		for _, imported := range p.Imports {
			standard := !strings.Contains(strings.Split(imported, "/")[0], ".")
			if !standard && imported != "github.com/google/uuid" && !ours.MatchString(imported) {
				t.Errorf("contract %s imports %s: a contract is a leaf", p.ImportPath, imported)
			}
		}
	}
}

func TestPlatformKnowsNoModule(t *testing.T) {
	for _, p := range packages(t) {
		if !strings.HasPrefix(p.ImportPath, module+"internal/platform/") && !strings.HasPrefix(p.ImportPath, module+"internal/bus") {
			continue
		}
		for _, imported := range p.Imports {
			if name, _ := moduleOf(imported); name != "" {
				t.Errorf("%s imports %s: the platform has no business words", p.ImportPath, imported)
			}
		}
	}
}

func TestNoDrawerPackages(t *testing.T) {
	drawer := regexp.MustCompile(`/(util|utils|common|helpers?|models|types|misc|shared)$`)
	for _, p := range packages(t) {
		if drawer.MatchString(p.ImportPath) {
			t.Errorf("%s: a package is named for what it does, not for being left over", p.ImportPath)
		}
	}
}

// maxLines fails the build, after 500 lines have asked for a reason.
const maxLines = 800

func TestFilesStayReadable(t *testing.T) {
	generated := regexp.MustCompile(`^// Code generated .* DO NOT EDIT\.$`)
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			f, err := os.Open(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			lines, skip := 0, false
			for s := bufio.NewScanner(f); s.Scan(); lines++ {
				if lines < 20 && generated.MatchString(s.Text()) {
					skip = true
				}
			}
			_ = f.Close()
			if !skip && lines > maxLines {
				t.Errorf("%s has %d lines; the most is %d", filepath.Join(p.ImportPath, name), lines, maxLines)
			}
		}
	}
}
