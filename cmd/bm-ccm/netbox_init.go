// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/bm-ccm/bm-ccm/pkg/ipam/netbox/provision"
	"github.com/bm-ccm/bm-ccm/pkg/netbox"
	"github.com/bm-ccm/bm-ccm/pkg/netbox/schema"
)

// initOptions are the flags of netbox init.
type initOptions struct {
	// url, tokenFile and caFile are how to reach NetBox as an administrator.
	url, tokenFile, caFile string
	// access is what the cluster's own token may do.
	access schema.Access
	// print shows what access needs, and asks no NetBox.
	print bool
	// out is the file for the token; empty prints it.
	out string
}

// newNetBoxInitCommand returns the command that an administrator runs once for each
// cluster, and again after an upgrade that needs more of NetBox.
func newNetBoxInitCommand() *cobra.Command {
	o := &initOptions{}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create the custom fields, user, permissions and token that a cluster needs",
		Long: `Creates in NetBox what bm-ccm needs for one cluster: the custom fields of IP
addresses, a user, its permissions (to see what is read, to write the addresses
of this cluster and no others) and a token.

It may be run again at any time: what exists is left alone, or changed where that
can do no harm (filter logic exact, unique while no two values are equal, a missing
right). Anything else that is not as it must be is reported as WRONG with the fix,
and left as it is.

The token must be an administrator's. If you cannot share an administrator's token,
--print shows the objects to create; no NetBox is asked then.`,
		Example: `  bm-ccm netbox init --url https://netbox.example.org --token-file admin-token \
    --cluster prod-1 --out prod-1-token
  bm-ccm netbox init --cluster prod-1 --print > setup.json`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          interruptible(o.run),
	}
	f := cmd.Flags()
	f.StringVar(&o.url, "url", "", "URL of NetBox, without /api")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the API token of an administrator")
	f.StringVar(&o.caFile, "ca-file", "", "PEM certificates to trust instead of the system's")
	f.StringVar(&o.access.Cluster, "cluster", "", "clusterName of the cloud configuration")
	f.StringVar(&o.access.User, "user", "", "NetBox user of the cluster (default bm-ccm-<cluster>)")
	f.StringArrayVar(&o.access.ReservedTenants, "reserved-tenant", nil,
		"slug of a tenant whose addresses of status reserved the cluster may take; may be given again")
	f.BoolVar(&o.print, "print", false, "print the objects to create as JSON, and create nothing")
	f.StringVar(&o.out, "out", "", "file for the cluster's token; without it a new token is printed, once")
	return cmd
}

// validate checks the flags before anything is asked of NetBox: a mistake in the
// last of them must not leave half of the objects behind.
func (o *initOptions) validate() error {
	flags := map[string]string{"cluster": o.access.Cluster}
	if !o.print {
		flags["url"], flags["token-file"] = o.url, o.tokenFile
	}
	if err := required(flags); err != nil {
		return err
	}
	if problems := validation.IsDNS1123Subdomain(o.access.Cluster); len(problems) > 0 {
		return fmt.Errorf("--cluster %q: %s", o.access.Cluster, strings.Join(problems, "; "))
	}
	if o.print && o.out != "" {
		return errors.New("either --print or --out: --print creates no token")
	}
	return nil
}

// howToApply goes to stderr, so that the JSON on stdout can be put into a file.
const howToApply = `
Create the custom fields (extras/custom-fields/), the user (users/users/) and the permissions
(users/permissions/, each with "users": [id of the user]) by POST to the REST API, or in the web
interface. Then a token with "write enabled" for that user. docs/netbox.md has the commands.
`

func (o *initOptions) run(ctx context.Context, cmd *cobra.Command) error {
	if err := o.validate(); err != nil {
		return err
	}
	if o.print {
		// What is printed is what the other way writes: nobody has to keep a second
		// description in step with it.
		if err := writeJSON(cmd.OutOrStdout(), o.access.Plan()); err != nil {
			return err
		}
		fmt.Fprint(cmd.ErrOrStderr(), howToApply)
		return nil
	}
	client, err := netbox.NewClient(netbox.Options{URL: o.url, TokenFile: o.tokenFile, CAFile: o.caFile})
	if err != nil {
		return asFlags(err)
	}
	out := cmd.OutOrStdout()
	wrong := 0
	user, err := provision.Init(ctx, client, o.access.Plan(), func(s provision.Step) {
		if s.Outcome == provision.StepWrong {
			wrong++
		}
		printStep(out, s)
	})
	if err != nil {
		return asFlags(err)
	}
	// A token for a NetBox that is not as it must be would only move the failure into
	// the cluster.
	switch {
	case wrong == 1:
		return errors.New("1 item needs manual correction, see WRONG above; no token was created")
	case wrong > 1:
		return fmt.Errorf("%d items need manual correction, see WRONG above; no token was created", wrong)
	}
	if err := o.token(ctx, client, user, out); err != nil {
		return asFlags(err)
	}
	fmt.Fprint(out, "\nnext: put the token into the Secret bm-ccm-netbox, then run bm-ccm netbox check\n")
	return nil
}

// printStep prints what Init reports while it works: if it is interrupted, it is
// known how far it came.
func printStep(w io.Writer, s provision.Step) {
	fmt.Fprintf(w, "%-8s %s", s.Outcome, s.What)
	if s.Detail != "" {
		fmt.Fprint(w, ": ", s.Detail)
	}
	fmt.Fprintln(w)
}

// asFlags gives the fields of the configuration the names that they have here.
// The error loses its type by it, and nobody asks for that: it is printed.
func asFlags(err error) error {
	text := strings.NewReplacer("netbox.url", "--url", "netbox.tokenFile", "--token-file", "netbox.caFile", "--ca-file").Replace(err.Error())
	return errors.New(text)
}

// token creates a token unless there is one. With a file, it is the token in it
// that counts: after it was revoked, a new one is created. Without one any token of
// the user does, because NetBox does not show it.
func (o *initOptions) token(ctx context.Context, client *netbox.Client, user int64, out io.Writer) error {
	old, err := readToken(o.out)
	if err != nil {
		return err
	}
	if old != "" || o.out == "" {
		has, err := provision.HasToken(ctx, client, user, old)
		if err != nil {
			return err
		}
		if has {
			o.printOld(out)
			return nil
		}
	}
	// Before the token: one that cannot be kept would have to be revoked by hand.
	file, err := newTokenFile(o.out)
	if err != nil {
		return err
	}
	token, err := provision.NewToken(ctx, client, user)
	if err != nil {
		return errors.Join(err, file.drop())
	}
	if o.out == "" {
		printStep(out, provision.Step{Outcome: provision.StepCreated, What: "token", Detail: token + " (NetBox does not show it again)"})
		return nil
	}
	if err := file.keep(token); err != nil {
		return fmt.Errorf("NetBox created a token, but %w: delete it there and run this again", err)
	}
	printStep(out, provision.Step{Outcome: provision.StepCreated, What: "token", Detail: "in " + o.out})
	return nil
}

// printOld says where the token is that exists already.
func (o *initOptions) printOld(out io.Writer) {
	detail := "in " + o.out
	if o.out == "" {
		detail = "NetBox does not show it again; for another one name a new file with --out"
	}
	printStep(out, provision.Step{Outcome: provision.StepExists, What: "token", Detail: detail})
}

// readToken returns the token that an earlier run has written, "" if none has.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the user names the file
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("--out: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// tokenFile is a file for a token that is not there yet. It is created before the
// token is: NetBox shows a token only once.
type tokenFile struct {
	path string
	temp *os.File
}

// newTokenFile makes sure that the token can be written before it is created. The
// file gets its name only with the token in it.
func newTokenFile(path string) (*tokenFile, error) {
	if path == "" {
		return &tokenFile{}, nil
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return &tokenFile{path: path, temp: temp}, nil
}

// keep writes the token and gives the file its name, in one step: whoever reads it
// sees a whole token or none.
func (t *tokenFile) keep(token string) error {
	_, err := t.temp.WriteString(token + "\n")
	if err = errors.Join(err, t.temp.Close()); err == nil {
		err = os.Rename(t.temp.Name(), t.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("--out %s cannot be written: %w", t.path, err), os.Remove(t.temp.Name()))
	}
	return nil
}

// drop removes the file of a token that was not created.
func (t *tokenFile) drop() error {
	if t.temp == nil {
		return nil
	}
	return errors.Join(t.temp.Close(), os.Remove(t.temp.Name()))
}
