package errs

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Reference puts the errors of many packages into one list, by code. Two different errors with one code are a mistake: clients tell
// errors apart by it.
func Reference(lists ...[]*Error) ([]*Error, error) {
	byCode := map[string]*Error{}
	var all []*Error
	for _, list := range lists {
		for _, e := range list {
			known, ok := byCode[e.Code]
			switch {
			case !ok:
				byCode[e.Code] = e
				all = append(all, e)
			case known.Kind != e.Kind || known.Message != e.Message:
				return nil, fmt.Errorf("the error code %s stands for %q and for %q", e.Code, known.Message, e.Message)
			}
		}
	}
	slices.SortFunc(all, func(a, b *Error) int { return cmp.Compare(a.Code, b.Code) })
	return all, nil
}

// WriteMarkdown writes the reference of errors as a page of the documentation.
func WriteMarkdown(w io.Writer, list []*Error) error {
	var b strings.Builder
	b.WriteString("# Errors\n\nGenerated from the code; do not edit. Every failed request is answered with `application/problem+json`\n" +
		"(RFC 9457), whose `code` is one of these and stays the same from release to release. `retryable` tells whether the same\n" +
		"request may succeed later, unchanged.\n\n| code | status | retryable | what failed | what to do |\n|---|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ").Replace
	for _, e := range list {
		retry := "no"
		if e.Retryable {
			retry = "yes"
		}
		fmt.Fprintf(&b, "| <a id=\"%s\"></a>`%s` | %d | %s | %s | %s |\n", e.Code, e.Code, HTTPStatus(e.Kind), retry, cell(e.Message), cell(e.Action))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
