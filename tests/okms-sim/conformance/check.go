package main

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/google/uuid"
	"github.com/ovh/okms-sdk-go"
)

// run is one pass over the simulator and its tally.
type run struct {
	ctx    context.Context
	client *okms.Client
	okmsID uuid.UUID
	checks int
	failed int
}

// check prints one line and counts it.
func (r *run) check(name string, problem string) {
	r.checks++
	if problem == "" {
		fmt.Println("ok    ", name)
		return
	}
	r.failed++
	fmt.Println("FAILED", name+":", problem)
}

// works checks that a call succeeded.
func (r *run) works(name string, err error) bool {
	if err != nil {
		r.check(name, oneLine(err))
		return false
	}
	r.check(name, "")
	return true
}

// equal checks a part of an answer.
func (r *run) equal(name string, got, want any) {
	if reflect.DeepEqual(got, want) {
		r.check(name, "")
		return
	}
	r.check(name, fmt.Sprintf("got %#v, want %#v", got, want))
}

// refused checks that a call failed with this status, and with this code unless it is 0.
func (r *run) refused(name string, err error, status int, code okms.ErrorCode) {
	known := okms.AsKmsError(err)
	switch {
	case err == nil:
		r.check(name, "succeeded, should be refused")
	case okms.ErrStatusCode(err) != status:
		r.check(name, fmt.Sprintf("got status %d, want %d", okms.ErrStatusCode(err), status))
	case known == nil:
		r.check(name, "the SDK finds no error in the answer")
	case code != 0 && known.ErrorCode != code:
		r.check(name, fmt.Sprintf("got code %d, want %d", known.ErrorCode, code))
	default:
		r.check(name, "")
	}
}

// oneLine keeps the promise of one line per check.
func oneLine(err error) string {
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

// ptr is what a generated client needs for every optional field.
func ptr[T any](value T) *T {
	return &value
}

// val reads an optional field; an absent one is its zero value.
func val[T any](pointer *T) T {
	if pointer == nil {
		var zero T
		return zero
	}
	return *pointer
}
