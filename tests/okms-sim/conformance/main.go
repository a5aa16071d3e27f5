// Conformance asks the simulator every secret operation that OVHcloud's official SDK has, and checks the answers.
//
// It knows only what the SDK knows: if the SDK cannot read an answer, no client of OKMS can. What the SDK does not reach
// (TLS refusals, faults, switches) is covered by the Rust tests. One line per check, a summary, exit status 1 on any
// mismatch.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/ovh/okms-sdk-go"
)

// deadline bounds the whole run; it takes about a second.
const deadline = 2 * time.Minute

func main() {
	endpoint := flag.String("endpoint", "", "URL of the simulator, such as https://127.0.0.1:8443")
	ca := flag.String("ca", "", "file with the authority of the server's certificate (PEM)")
	cert := flag.String("cert", "", "file with the client certificate (PEM)")
	key := flag.String("key", "", "file with the client certificate's key (PEM)")
	domain := flag.String("okms-id", "", "id of the domain (UUID)")
	flag.Parse()

	client, err := connect(*endpoint, *ca, *cert, *key)
	if err != nil {
		fail(err)
	}
	okmsID, err := uuid.Parse(*domain)
	if err != nil {
		fail(fmt.Errorf("-okms-id: %w", err))
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()

	run := &run{ctx: ctx, client: client, okmsID: okmsID}
	run.kv2()
	run.restV2()
	run.paging()
	run.refusals()
	fmt.Printf("%d checks, %d failed\n", run.checks, run.failed)
	if run.failed > 0 {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "conformance:", err)
	os.Exit(1)
}

// connect makes a client without retries: the simulator has no reason to fail.
func connect(endpoint, ca, cert, key string) (*okms.Client, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("-ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("-ca: no certificate in the file")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("-cert, -key: %w", err)
	}
	return okms.NewRestAPIClient(endpoint, okms.ClientConfig{
		Retry: &okms.RetryConfig{RetryMax: 0},
		TlsCfg: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			RootCAs:      roots,
			Certificates: []tls.Certificate{pair},
		},
	})
}
