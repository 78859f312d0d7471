// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// advice says what to set right when NetBox was not reached at all, as a clause
// with ": " at its end; "" if the error says all there is.
func (c *Client) advice(err error) string {
	clause := c.certificateAdvice(err)
	var name *net.DNSError
	var op *net.OpError
	switch {
	case clause != "":
	case errors.As(err, &op) && op.Op == "proxyconnect":
		clause = "the proxy that HTTPS_PROXY or HTTP_PROXY names does not work (NO_PROXY lists what needs none)"
	case errors.As(err, &name) && name.IsNotFound:
		clause = fmt.Sprintf("DNS does not know the host %s: correct netbox.url", name.Name)
	case errors.As(err, &name):
		clause = fmt.Sprintf("DNS does not answer for the host %s", name.Name)
	case errors.As(err, new(tls.RecordHeaderError)) || strings.Contains(err.Error(), "gave HTTP response to HTTPS client"):
		clause = "the server speaks no TLS there: correct the port or write http:// in netbox.url"
	case errors.Is(err, syscall.ECONNREFUSED):
		clause = "nothing listens there: correct host and port of netbox.url, or start NetBox"
	}
	if clause == "" {
		return ""
	}
	return clause + ": "
}

// certificateAdvice is the part of advice about certificates, which crypto/x509
// describes without saying whose configuration is to blame.
func (c *Client) certificateAdvice(err error) string {
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)) && c.caFile != "":
		return fmt.Sprintf("its certificate is not signed by one in netbox.caFile (%s): put the certificate of its authority there", c.caFile)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "its certificate is signed by an authority that is not known here: put that authority's certificate into a file and name it in netbox.caFile"
	case errors.As(err, new(x509.HostnameError)):
		return "its certificate is for other names: use one of those in netbox.url"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate is out of date, or the clock here is wrong"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "its certificate is not valid"
	}
	return ""
}
