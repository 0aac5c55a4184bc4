package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/stanchion-queue/stanchion/queue/verify"
)

// verifyCmd checks a published line with public data only.
type verifyCmd struct {
	Record   string   `arg:"" help:"Where the line is published: the URL of its line (.../rooms/ROOM/lines/LINE), a directory that mirrors it, or a file with the record alone."`
	Key      []string `placeholder:"KEY" help:"Public key that the organiser publishes for records (base64url, 43 characters); may be repeated."`
	Ticket   []string `placeholder:"TICKET" help:"A ticket whose place to compute; may be repeated."`
	Entrants string   `type:"existingfile" placeholder:"FILE" help:"List of all stamps to check: lane,window,incarnation,sequence,who,rank on each line."`
	JSON     bool     `help:"Print one JSON object."`
}

// errNotVerified makes the process end with a failure after the report is printed.
var errNotVerified = errors.New("the published line does not hold")

func (c *verifyCmd) Run(p *process) error {
	options := verify.Options{Tickets: c.Ticket}
	for _, text := range c.Key {
		key, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("--key %q is not a public key: want 43 characters of base64url", text)
		}
		options.Trusted = append(options.Trusted, key)
	}
	source, err := verify.Open(c.Record, nil)
	if err != nil {
		return err
	}
	if c.Entrants != "" {
		f, err := os.Open(c.Entrants)
		if err != nil {
			return fmt.Errorf("open entrants: %w", err)
		}
		defer f.Close()
		options.Entrants = f
	}
	report, err := verify.Line(p.ctx, source, options)
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(p.stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = c.print(p, report)
	}
	if err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	if !report.OK {
		return errNotVerified
	}
	return nil
}

func (c *verifyCmd) print(p *process, r *verify.Report) error {
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "room %s, line %s\n", r.Room, r.Line)
	for _, check := range r.Checks {
		fmt.Fprintf(t, "%s\t%s\t%s\n", check.Status, check.Name, check.Detail)
	}
	for _, place := range r.Places {
		rank := "unknown"
		if place.Rank != nil {
			rank = fmt.Sprintf("%d (counted from 1)", *place.Rank+1)
		}
		fmt.Fprintf(t, "place\t%s\tlane %s, window %d %s\n", rank, place.Lane, place.Window, place.Note)
	}
	return t.Flush()
}
