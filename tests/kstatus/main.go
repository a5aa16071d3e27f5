// Kstatus says of Kubernetes objects what tools say that wait for them: Flux, kpt and Helm decide by the rules of this library
// whether something that they applied is done.
//
// It knows nothing of the operator. Objects come as JSON on the standard input; each is answered by one line of JSON on the
// standard output, in their order. What objects it is shown, and what it shall say, is in tests/it/kstatus.rs.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// verdict is what kstatus makes of one object.
type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	objects, verdicts := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var text json.RawMessage
		err := objects.Decode(&text)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading an object: %w", err)
		}
		// Its own decoder, since numbers have to be what a client of Kubernetes makes of them.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return fmt.Errorf("decoding an object: %w", err)
		}
		result, err := status.Compute(object)
		if err != nil {
			return fmt.Errorf("judging %s: %w", object.GetName(), err)
		}
		if err := verdicts.Encode(verdict{result.Status.String(), result.Message}); err != nil {
			return fmt.Errorf("writing a verdict: %w", err)
		}
	}
}
