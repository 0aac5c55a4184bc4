package waitpage

import (
	"maps"
	"strings"
	"testing"
	"testing/fstest"
)

// TestLanguages: the committed words load, which checks each of them, and there are at least fifteen languages.
func TestLanguages(t *testing.T) {
	pages, err := New("/.stanchion")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(pages.Languages()); n < 15 {
		t.Errorf("%d languages", n)
	}
	for _, l := range pages.Languages() {
		if l.Name == "" {
			t.Errorf("%s has no name", l.Code)
		}
		for _, s := range Previews() {
			p := Sample(s, "onsale", "The Gala", "City Opera", now)
			p.Lang = l.Code
			var b strings.Builder
			if err := pages.Render(&b, p); err != nil {
				t.Fatal(err)
			}
			dir := "ltr"
			if l.Code == "ar" || l.Code == "he" {
				dir = "rtl"
			}
			if want := `<html lang="` + l.Code + `" dir="` + dir + `">`; !strings.Contains(b.String(), want) || strings.ContainsAny(b.String(), "{}") {
				t.Errorf("%s in %s: no %s, or a placeholder is left", s, l.Code, want)
			}
		}
	}
}

func TestPluralForms(t *testing.T) {
	pages, err := New("/.stanchion")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		lang string
		n    uint64
		want string
	}{
		{"en", 1, "In about 1 minute"}, {"en", 2, "In about 2 minutes"},
		{"pl", 1, "Za około 1 minutę"}, {"pl", 3, "Za około 3 minuty"}, {"pl", 5, "Za około 5 minut"}, {"pl", 22, "Za około 22 minuty"}, {"pl", 12, "Za około 12 minut"},
		{"ru", 21, "Примерно через 21 минуту"}, {"ru", 11, "Примерно через 11 минут"}, {"ru", 3, "Примерно через 3 минуты"},
		{"ar", 1, "بعد نحو دقيقة"}, {"ar", 2, "بعد نحو دقيقتين"}, {"ar", 7, "بعد نحو 7 دقائق"}, {"ar", 11, "بعد نحو 11 دقيقة"},
		{"he", 2, "בעוד כשתי דקות"}, {"ja", 1, "約1分後"}, {"fr", 1, "Dans environ 1 minute"},
	} {
		if got := pages.words.byCode[tt.lang].count("when.minutes", tt.n); got != tt.want {
			t.Errorf("%s %d: %q, want %q", tt.lang, tt.n, got, tt.want)
		}
	}
}

func TestLanguageOf(t *testing.T) {
	pages, err := New("/.stanchion")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ chosen, accept, want string }{
		{"", "", "en"}, {"", "de-AT,de;q=0.9,en;q=0.5", "de"}, {"", "tlh", "en"}, {"fr", "de", "fr"}, {"xx", "de", "de"}, {"../../x", "", "en"},
		{"", "zh-CN", "zh-Hans"}, {"", "pt-BR", "pt"}, {"", "iw", "he"}, {"", "*;q=0.1", "en"}, {"", "de;q=x", "en"}, {"", strings.Repeat("de,", 5000), "de"},
		{"", strings.Repeat("x", 5000), "en"},
	} {
		if got := pages.Language(tt.chosen, tt.accept); got != tt.want {
			t.Errorf("chosen %q, accept %.40q: %s, want %s", tt.chosen, tt.accept, got, tt.want)
		}
	}
}

// TestFaultyWords: what a translator may get wrong is refused, and named.
func TestFaultyWords(t *testing.T) {
	en := `{"a": {"text": "about {n}", "note": "x"}, "b": {"one": "{n} minute", "other": "{n} minutes", "note": "x"}}`
	for name, tt := range map[string]struct {
		files map[string]string
		want  string // "" is fine
	}{
		"good":             {map[string]string{"de": `{"a": "etwa {n}", "b": {"one": "eine Minute", "other": "{n} Minuten"}}`}, ""},
		"missing":          {map[string]string{"de": `{"b": {"one": "{n} Minute", "other": "{n} Minuten"}}`}, "de: a is missing"},
		"empty":            {map[string]string{"de": `{"a": " ", "b": {"one": "{n} Minute", "other": "{n} Minuten"}}`}, "de: a is empty"},
		"unknown":          {map[string]string{"de": `{"a": "etwa {n}", "c": "x", "b": {"one": "{n} Minute", "other": "{n} Minuten"}}`}, "de: c is unknown"},
		"placeholder":      {map[string]string{"de": `{"a": "etwa {m}", "b": {"one": "{n} Minute", "other": "{n} Minuten"}}`}, "de: a has the placeholders [{m}]"},
		"no placeholder":   {map[string]string{"de": `{"a": "etwa", "b": {"one": "{n} Minute", "other": "{n} Minuten"}}`}, "de: a has the placeholders []"},
		"twice":            {map[string]string{"de": `{"a": "{n} {n}", "b": {"one": "{n} Minute", "other": "{n} Minuten"}}`}, "de: a has the placeholders"},
		"no form":          {map[string]string{"pl": `{"a": "ok. {n}", "b": {"one": "{n} minuta", "few": "{n} minuty", "other": "{n} minuty"}}`}, `pl: b lacks the form "many"`},
		"form too many":    {map[string]string{"ja": `{"a": "約{n}", "b": {"one": "{n}分", "other": "{n}分"}}`}, `ja: b has a form "one"`},
		"count forgotten":  {map[string]string{"de": `{"a": "etwa {n}", "b": {"one": "{n} Minute", "other": "Minuten"}}`}, "de: b has the placeholders []"},
		"shouting":         {map[string]string{"de": `{"a": "etwa {n}!", "b": {"one": "{n} Minute", "other": "{n} Minuten"}}`}, "de: a shouts"},
		"markup":           {map[string]string{"de": `{"a": "<b>{n}</b>", "b": {"one": "{n} Minute", "other": "{n} Minuten"}}`}, "de: a shouts or holds markup"},
		"no note":          {map[string]string{"en": `{"a": {"text": "x"}}`}, "en: a has no note"},
		"no such language": {map[string]string{"x!": `{}`}, "language x!"},
		"not JSON":         {map[string]string{"de": `{`}, "words of de"},
		"no first":         {map[string]string{"en": ""}, "words of en"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"en": en}
			maps.Copy(files, tt.files)
			dir := fstest.MapFS{}
			for code, text := range files {
				dir[code+".json"] = &fstest.MapFile{Data: []byte(text)}
			}
			_, err := loadWords(dir)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzLanguageOf(f *testing.F) {
	pages, err := New("/.stanchion")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("de", "fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5")
	f.Add("", "zh-Hant-TW-u-nu-latn;q=0.1,,,;q=")
	f.Fuzz(func(t *testing.T, chosen, accept string) {
		if got := pages.Language(chosen, accept); pages.words.byCode[got] == nil {
			t.Fatalf("%q is not a language of the page", got)
		}
	})
}
