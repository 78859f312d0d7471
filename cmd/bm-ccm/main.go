// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client and workqueue metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build information as a metric
)

func main() {
	// cli.Run would log the error, with a time and a line of code, and exit with 1:
	// a user wants a sentence, and a script the code.
	err := cli.RunNoErrOutput(newRootCommand())
	if err != nil && !errors.As(err, new(printedError)) {
		fmt.Fprintln(os.Stderr, "Error:", err)
	}
	if err != nil {
		os.Exit(exitCode(err))
	}
}

// exitError is an error with an exit code of its own, for commands that scripts ask
// and that know more answers than yes and no.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

// exitCode is 1 for errors without a code, as shells and probes expect.
func exitCode(err error) int {
	var e exitError
	if errors.As(err, &e) {
		return e.code
	}
	return 1
}

// printedError is an error that somebody below main has printed already: main
// takes only the exit code from it, because the same line twice looks like two
// errors.
type printedError struct{ error }

func (e printedError) Unwrap() error { return e.error }
