package waitpage

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"
	"golang.org/x/text/message"
	"golang.org/x/text/number"
)

//go:embed lang
var langFiles embed.FS

// fallback is the language that every message is written in first.
const fallback = "en"

// forms is one message: its plural forms by CLDR's names, "other" alone where it has none.
type forms map[string]string

// UnmarshalJSON reads "text", {"one": …, "other": …}, or in the first language {"text": …, "note": …}.
func (f *forms) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		*f = forms{"other": text}
		return nil
	}
	var m map[string]string
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	if t, ok := m["text"]; ok {
		m["other"] = t
		delete(m, "text")
	}
	*f = m
	return nil
}

// MarshalJSON writes a message as the page's script reads it.
func (f forms) MarshalJSON() ([]byte, error) {
	if len(f) == 1 {
		return json.Marshal(f["other"])
	}
	return json.Marshal(map[string]string(f))
}

// speech is the page's words and numbers in one language. It is safe for concurrent use.
type speech struct {
	code    string // as in the file's name and in html lang
	name    string // what its speakers call it
	dir     string // ltr or rtl
	tag     language.Tag
	words   map[string]forms
	printer *message.Printer
}

// catalogue is every language of the page.
type catalogue struct {
	order   []*speech // sorted by code
	byCode  map[string]*speech
	matcher language.Matcher
}

// loadWords reads a directory of catalogues and refuses it unless every language has every message, with the placeholders of the first language and
// exactly the plural forms that the language needs. All faults are reported at once.
func loadWords(dir fs.FS) (*catalogue, error) {
	files, err := fs.Glob(dir, "*.json")
	if err != nil {
		return nil, err
	}
	c := &catalogue{byCode: map[string]*speech{}}
	var errs []error
	for _, file := range files {
		code := strings.TrimSuffix(file, ".json")
		raw, err := fs.ReadFile(dir, file)
		if err != nil {
			return nil, err
		}
		s := &speech{code: code, dir: "ltr"}
		if s.tag, err = language.Parse(code); err != nil {
			return nil, fmt.Errorf("language %s: %w", code, err)
		}
		if err := json.Unmarshal(raw, &s.words); err != nil {
			return nil, fmt.Errorf("words of %s: %w", code, err)
		}
		if script, _ := s.tag.Script(); script.String() == "Arab" || script.String() == "Hebr" {
			s.dir = "rtl"
		}
		s.name = display.Self.Name(s.tag)
		// The script says numbers in the same digits, so that they do not change under the reader's eyes.
		latin, err := s.tag.SetTypeForKey("nu", "latn")
		if err != nil {
			return nil, fmt.Errorf("language %s: %w", code, err)
		}
		s.printer = message.NewPrinter(latin)
		c.byCode[code] = s
	}
	first := c.byCode[fallback]
	if first == nil {
		return nil, errors.New("the words of " + fallback + " are missing")
	}
	for key, f := range first.words {
		if f["note"] == "" {
			errs = append(errs, fmt.Errorf("%s: %s has no note for translators", fallback, key))
		}
		delete(f, "note")
	}
	tags := []language.Tag{first.tag}
	c.order = []*speech{first}
	for _, s := range c.byCode {
		if s != first {
			c.order = append(c.order, s)
		}
	}
	slices.SortFunc(c.order[1:], func(a, b *speech) int { return strings.Compare(a.code, b.code) })
	for _, s := range c.order {
		errs = append(errs, s.check(first)...)
		if s != first {
			tags = append(tags, s.tag)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.matcher = language.NewMatcher(tags)
	return c, nil
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// check compares a language with the first one.
func (s *speech) check(first *speech) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(s.code+": "+format, args...)) }
	needed := s.pluralForms()
	for key, f := range first.words {
		own, ok := s.words[key]
		if !ok {
			bad("%s is missing", key)
			continue
		}
		want := placeholders(f["other"])
		if len(f) > 1 {
			for _, form := range needed {
				if own[form] == "" {
					bad("%s lacks the form %q", key, form)
				}
			}
		}
		for form, text := range own {
			switch {
			case strings.TrimSpace(text) == "":
				bad("%s is empty", key)
			case len(f) == 1 && form != "other", len(f) > 1 && !slices.Contains(needed, form):
				bad("%s has a form %q that the language has not", key, form)
			case strings.ContainsAny(text, "!！<>&"):
				bad("%s shouts or holds markup: %q", key, text)
			}
			got, free := placeholders(text), form == "zero" || form == "one" || form == "two"
			if !slices.Equal(got, want) && !(free && slices.Equal(got, slices.DeleteFunc(slices.Clone(want), isCount))) {
				bad("%s has the placeholders %v, want %v", key, got, want)
			}
		}
	}
	for key := range s.words {
		if _, ok := first.words[key]; !ok {
			bad("%s is unknown", key)
		}
	}
	return errs
}

func placeholders(text string) []string {
	p := placeholder.FindAllString(text, -1)
	slices.Sort(p)
	return p
}

// isCount reports whether a placeholder is the number that decides the form: "one minute" needs none.
func isCount(p string) bool { return p == "{n}" }

var formNames = map[plural.Form]string{plural.Zero: "zero", plural.One: "one", plural.Two: "two", plural.Few: "few", plural.Many: "many", plural.Other: "other"}

// form is the plural form of a whole number. CLDR's rules look at the last six digits and at zero.
func (s *speech) form(n uint64) string {
	if n >= 10_000_000 {
		n = n%1_000_000 + 1_000_000
	}
	return formNames[plural.Cardinal.MatchPlural(s.tag, int(n), 0, 0, 0, 0)]
}

// pluralForms are the forms that whole numbers take in the language. "Other" is always one: it is also what scripts fall back to.
func (s *speech) pluralForms() []string {
	seen := map[string]bool{"other": true}
	for n := range uint64(2000) {
		seen[s.form(n)] = true
	}
	var names []string
	for _, f := range []string{"zero", "one", "two", "few", "many", "other"} {
		if seen[f] {
			names = append(names, f)
		}
	}
	return names
}

// say is a message without plural forms; args are placeholders' names and values in turn.
func (s *speech) say(key string, args ...string) string { return fill(s.words[key]["other"], args) }

// count is a message whose form follows n.
func (s *speech) count(key string, n uint64, args ...string) string {
	f := s.words[key]
	text, ok := f[s.form(n)]
	if !ok {
		text = f["other"]
	}
	return fill(text, append(args, "n", s.number(n)))
}

func fill(text string, args []string) string {
	for i := 0; i+1 < len(args); i += 2 {
		text = strings.ReplaceAll(text, "{"+args[i]+"}", args[i+1])
	}
	return text
}

func (s *speech) number(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10)
	}
	return s.printer.Sprint(number.Decimal(n))
}

// match finds the language to speak: the one the fan chose, if there is one, else the best of the Accept-Language field.
func (c *catalogue) match(chosen, accept string) string {
	if _, ok := c.byCode[chosen]; ok {
		return chosen
	}
	if len(accept) > 200 { // nobody speaks so many
		accept = accept[:strings.LastIndexByte(accept[:200], ',')+1]
	}
	tags, _, err := language.ParseAcceptLanguage(strings.TrimSuffix(accept, ","))
	if err != nil || len(tags) == 0 {
		return fallback
	}
	_, i, confidence := c.matcher.Match(tags...)
	if confidence == language.No {
		return fallback
	}
	return c.order[i].code
}
