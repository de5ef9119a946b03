package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/boombuler/barcode/qr"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
)

func newMFA(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "mfa", Short: "Your second factor: an authenticator app, and who must have one",
		Long: "Your second factor: an authenticator app on a phone, with recovery codes for the day when it is lost. 'novacron user reset-mfa' helps others."}
	cmd.AddCommand(newMFAStatus(e), newMFAEnrol(e), newMFAVerify(e), newMFADisable(e), newMFARecovery(e), newMFAPolicy(e))
	return cmd
}

func newMFAStatus(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how it stands with your second factor", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			status, err := c.MFA(cmd.Context())
			if err != nil {
				return err
			}
			return printObject(e, status, func(s apiclient.MFAStatus) string { return yes(s.Enabled) }, func(s apiclient.MFAStatus) [][]string {
				fields := [][]string{{"enabled", yes(s.Enabled)}, {"required", yes(s.Required)}, {"methods", strings.Join(s.Methods, " ")},
					{"recovery codes left", strconv.Itoa(s.RecoveryCodesLeft)}, {"new app to confirm", yes(s.EnrolmentPending)}}
				if s.EnabledAt != nil {
					fields = append(fields, []string{"since", clock(*s.EnabledAt)})
				}
				return fields
			})
		},
	}
}

// proofFlags are how a password or a code is given once more.
type proofFlags struct{ passwordFile, code string }

func (f *proofFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "file with your password; - reads standard input")
	cmd.Flags().StringVar(&f.code, "code", "", "code of the authenticator app, or a recovery code, instead of the password")
}

// proving asks the server, and where that wants a proof, the person, and then the server again.
func proving[T any](ctx context.Context, e *env, f proofFlags, ask func(apiclient.Proof) (T, error)) (T, error) {
	proof := apiclient.Proof{Code: f.code}
	var err error
	if f.passwordFile != "" {
		if proof.Password, err = e.passwordFrom(ctx, f.passwordFile, ""); err != nil {
			var none T
			return none, err
		}
	}
	answer, err := ask(proof)
	if proof != (apiclient.Proof{}) || !errors.Is(err, auth.ErrReauthenticate) {
		return answer, err
	}
	if proof.Password, err = e.passwordFrom(ctx, "", "Your password: "); err != nil {
		return answer, err
	}
	return ask(proof)
}

func newMFAEnrol(e *env) *cobra.Command {
	var proof proofFlags
	var picture string
	cmd := &cobra.Command{
		Use: "enrol", Aliases: []string{"enroll"}, Short: "Set up an authenticator app, for the first time or on a new phone", Args: cobra.NoArgs,
		Long: "Set up an authenticator app, for the first time or on a new phone. At a terminal the QR code is shown and the app's first code asked for; elsewhere\n" +
			"'novacron mfa verify' confirms it. An app that is in use goes on until then.",
		Example: "  novacron mfa enrol\n  novacron mfa enrol --png qr.png && novacron mfa verify 123456",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := e.connect()
			if err != nil {
				return err
			}
			made, err := proving(ctx, e, proof, func(p apiclient.Proof) (apiclient.Object[apiclient.Enrolment], error) { return c.EnrolMFA(ctx, p) })
			if err != nil {
				return err
			}
			if picture != "" {
				if err := writeNew(picture, made.Value.QRPNG); err != nil {
					return err
				}
			}
			if e.forScripts() {
				return e.document(made)
			}
			if e.quiet {
				_, err = fmt.Fprintln(e.out, printable(made.Value.OTPAuthURI))
				return err
			}
			if _, ok := terminal(e.out); ok && picture == "" {
				drawn, err := drawQR(made.Value.OTPAuthURI)
				if err != nil {
					return err
				}
				fmt.Fprint(e.out, drawn)
			}
			fmt.Fprintf(e.out, "URI     %s\nsecret  %s\n", printable(made.Value.OTPAuthURI), printable(made.Value.Secret))
			if _, ok := terminal(e.in); !ok {
				_, err = fmt.Fprintln(e.out, "Add it to the app, and confirm it with the first code: novacron mfa verify CODE")
				return err
			}
			fmt.Fprint(e.errOut, "The code that the app shows: ")
			code, err := e.askLine(ctx)
			if err != nil {
				return err
			}
			return e.confirmMFA(ctx, c, code)
		},
	}
	proof.add(cmd)
	cmd.Flags().StringVar(&picture, "png", "", "new file to write the QR code to, a picture, instead of showing it")
	return cmd
}

// writeNew writes a file that only the person can read and that must not be there yet.
func writeNew(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the picture: %w", err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}

// drawQR draws a QR code with half blocks, light on dark, with the margin of four that ISO/IEC 18004 asks for.
func drawQR(text string) (string, error) {
	code, err := qr.Encode(text, qr.L, qr.Auto)
	if err != nil {
		return "", fmt.Errorf("draw QR code: %w", err)
	}
	const margin = 4
	size := code.Bounds().Dx()
	light := func(x, y int) bool {
		if x < 0 || y < 0 || x >= size || y >= size {
			return true
		}
		r, _, _, _ := code.At(x, y).RGBA()
		return r != 0
	}
	var b strings.Builder
	for y := -margin; y < size+margin; y += 2 {
		b.WriteString("\x1b[97;40m") // bright white on black, whatever the terminal's colours are
		for x := -margin; x < size+margin; x++ {
			switch top, bottom := light(x, y), y+1 >= size+margin || light(x, y+1); {
			case top && bottom:
				b.WriteString("█")
			case top:
				b.WriteString("▀")
			case bottom:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String(), nil
}

func newMFAVerify(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "verify CODE", Short: "Confirm the new authenticator app with its first code", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Confirm the new authenticator app with its first code. The recovery codes are shown this one time. All your other sessions end.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			return e.confirmMFA(cmd.Context(), c, args[0])
		},
	}
}

func (e *env) confirmMFA(ctx context.Context, c *apiclient.Client, code string) error {
	codes, err := c.ConfirmMFA(ctx, code)
	if err != nil {
		return err
	}
	return e.tellRecovery("Logins ask for the app from now on.", codes)
}

// tellRecovery shows recovery codes, which nobody can show again.
func (e *env) tellRecovery(done string, codes apiclient.Object[apiclient.RecoveryCodes]) error {
	if e.forScripts() {
		return e.document(codes)
	}
	if !e.quiet {
		fmt.Fprintf(e.out, "%s Keep these recovery codes in a safe place; each works once, and they are not shown again:\n", done)
	}
	for _, code := range codes.Value.RecoveryCodes {
		if _, err := fmt.Fprintln(e.out, printable(code)); err != nil {
			return err
		}
	}
	return nil
}

func newMFADisable(e *env) *cobra.Command {
	var proof proofFlags
	cmd := &cobra.Command{
		Use: "disable", Short: "Take your second factor away", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			_, err = proving(cmd.Context(), e, proof, func(p apiclient.Proof) (struct{}, error) { return struct{}{}, c.DisableMFA(cmd.Context(), p) })
			return e.done(err, "Logins ask for the password alone from now on.\n")
		},
	}
	proof.add(cmd)
	return cmd
}

func newMFARecovery(e *env) *cobra.Command {
	var proof proofFlags
	cmd := &cobra.Command{
		Use: "recovery-codes", Short: "Get new recovery codes; the old ones end", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			codes, err := proving(cmd.Context(), e, proof, func(p apiclient.Proof) (apiclient.Object[apiclient.RecoveryCodes], error) {
				return c.NewRecoveryCodes(cmd.Context(), p)
			})
			if err != nil {
				return err
			}
			return e.tellRecovery("The old ones work no more.", codes)
		},
	}
	proof.add(cmd)
	return cmd
}

func newMFAPolicy(e *env) *cobra.Command {
	var platform, everybody, nobody bool
	var roles []string
	cmd := &cobra.Command{
		Use: "policy", Short: "Show or say who must have a second factor", Args: cobra.NoArgs,
		Long: "Show who must have a second factor in the tenant, or with a flag say so. It counts at once: who lacks it can do nothing but set it up, you included.\n" +
			"What is said for the platform, or for the organisation of a project, holds besides.",
		Example: "  novacron mfa policy\n  novacron mfa policy --role operator --role admin\n  novacron mfa policy --everybody --platform",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if nobody && (everybody || len(roles) > 0) {
				return usageError{"--nobody goes with neither --everybody nor --role"}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			var policy apiclient.Object[auth.MFAPolicy]
			if everybody || nobody || len(roles) > 0 {
				policy, err = c.SetMFAPolicy(cmd.Context(), platform, everybody, roles)
			} else {
				policy, err = c.MFAPolicy(cmd.Context(), platform)
			}
			if err != nil {
				return err
			}
			return printObject(e, policy, func(p auth.MFAPolicy) string { return yes(p.Required) }, func(p auth.MFAPolicy) [][]string {
				where := "everywhere"
				if p.TenantID != nil {
					where = p.TenantID.String()
				}
				return [][]string{{"tenant", where}, {"everybody", yes(p.Required)}, {"roles", strings.Join(p.Roles, " ")}}
			})
		},
	}
	cmd.Flags().BoolVar(&platform, "platform", false, "everywhere, instead of in the tenant")
	cmd.Flags().BoolVar(&everybody, "everybody", false, "everybody must have one")
	cmd.Flags().StringArrayVar(&roles, "role", nil, "who has the role must have one; may be repeated")
	cmd.Flags().BoolVar(&nobody, "nobody", false, "nobody need have one")
	return cmd
}
