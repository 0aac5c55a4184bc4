package main

import "strings"

// fill replaces @NAME@ in a configuration file by the value that follows NAME.
func fill(text string, namesAndValues ...string) string {
	var pairs []string
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		pairs = append(pairs, "@"+namesAndValues[i]+"@", namesAndValues[i+1])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
