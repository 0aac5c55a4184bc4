package officetest

import (
	"bytes"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Page is a parsed page.
type Page struct {
	Answer
	root *html.Node
	fan  *Fan
	path string
}

// Form is a form with what a browser would send of it.
type Form struct {
	Action, Method string
	Values         url.Values
	page           *Page
}

// See opens a page and holds it to what every page must be.
func (f *Fan) See(path string) *Page {
	f.Office.T.Helper()
	return f.page(path, f.Read(path))
}

// Follow presses a form and goes where it leads, as often as it leads on within the office.
func (f *Fan) Follow(form Form) *Page {
	f.Office.T.Helper()
	if form.Method == "get" {
		return f.Go(form.Action + "?" + form.Values.Encode())
	}
	return f.arrive(form.Action, f.Press(form.Action, form.Values))
}

// Go opens an address and follows redirects within the office.
func (f *Fan) Go(path string) *Page {
	f.Office.T.Helper()
	return f.arrive(path, f.Read(path))
}

func (f *Fan) arrive(path string, a Answer) *Page {
	f.Office.T.Helper()
	for range 5 {
		to := a.Header.Get("Location")
		if a.Status != 303 || strings.HasPrefix(to, f.Office.SimURL) {
			return f.page(path, a)
		}
		path = strings.TrimPrefix(to, f.Office.URL)
		a = f.Read(path)
	}
	f.Office.T.Fatalf("%s leads on and on", path)
	return nil
}

func (f *Fan) page(path string, a Answer) *Page {
	t := f.Office.T
	t.Helper()
	p := &Page{Answer: a, fan: f, path: path}
	if a.Status == 303 {
		return p
	}
	if ct := a.Header.Get("Content-Type"); ct != "text/html; charset=utf-8" {
		t.Fatalf("%s is no page but %s: %s", path, ct, a.Body)
	}
	root, err := html.Parse(bytes.NewReader(a.Body))
	must(t, err)
	p.root = root
	p.check()
	return p
}

// check holds a page to what every page must be.
func (p *Page) check() {
	t := p.fan.Office.T
	t.Helper()
	ids := map[string]bool{}
	labelled := map[string]bool{}
	h1 := 0
	for n := range p.root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if id := attr(n, "id"); id != "" {
			if ids[id] {
				t.Errorf("%s: the id %s is there twice", p.path, id)
			}
			ids[id] = true
		}
		if n.DataAtom == atom.Label {
			labelled[attr(n, "for")] = true
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
				t.Errorf("%s: %s has an attribute %s, which our own policy forbids", p.path, n.Data, a.Key)
			}
		}
	}
	for n := range p.root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.DataAtom {
		case atom.H1:
			h1++
		case atom.Html:
			if attr(n, "lang") == "" {
				t.Errorf("%s says not which language it is in", p.path)
			}
		case atom.Img:
			if attr(n, "alt") == "" || attr(n, "width") == "" {
				t.Errorf("%s: a picture without text or size", p.path)
			}
		case atom.Script:
			if attr(n, "src") == "" {
				t.Errorf("%s: an inline script", p.path)
			}
		case atom.Style:
			t.Errorf("%s: an inline style", p.path)
		case atom.Input, atom.Select:
			if attr(n, "type") != "hidden" && !inside(n, atom.Label) && !labelled[attr(n, "id")] {
				t.Errorf("%s: %s has no label", p.path, attr(n, "name"))
			}
		case atom.Form:
			if inside(n, atom.Form) {
				t.Errorf("%s: a form in a form", p.path)
			}
		}
	}
	if h1 != 1 {
		t.Errorf("%s has %d main headings", p.path, h1)
	}
	for _, h := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"} {
		if p.Header.Get(h) == "" {
			t.Errorf("%s is sent without %s", p.path, h)
		}
	}
	if csp := p.Header.Get("Content-Security-Policy"); strings.Contains(csp, "unsafe") {
		t.Errorf("%s: the policy %q", p.path, csp)
	}
	if p.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s may be stored", p.path)
	}
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, key string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
}

func inside(n *html.Node, tag atom.Atom) bool {
	for p := n.Parent; p != nil; p = p.Parent {
		if p.DataAtom == tag {
			return true
		}
	}
	return false
}

// Text is what a person reads of the page, with single spaces.
func (p *Page) Text() string {
	if p.root == nil {
		return ""
	}
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.DataAtom == atom.Head || n.DataAtom == atom.Script {
			return
		}
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
		for c := range n.ChildNodes() {
			walk(c)
		}
	}
	walk(p.root)
	return strings.Join(strings.Fields(b.String()), " ")
}

// Says fails the test unless the page says each of the texts.
func (p *Page) Says(texts ...string) *Page {
	p.fan.Office.T.Helper()
	read := p.Text()
	for _, s := range texts {
		if !strings.Contains(read, s) {
			p.fan.Office.T.Errorf("%s (%d) does not say %q: %s", p.path, p.Status, s, read)
		}
	}
	return p
}

// SaysNot fails the test if the page says one of the texts.
func (p *Page) SaysNot(texts ...string) *Page {
	p.fan.Office.T.Helper()
	read := p.Text()
	for _, s := range texts {
		if strings.Contains(read, s) {
			p.fan.Office.T.Errorf("%s (%d) says %q: %s", p.path, p.Status, s, read)
		}
	}
	return p
}

// Is fails the test unless the page has the status.
func (p *Page) Is(status int) *Page {
	p.fan.Office.T.Helper()
	if p.Status != status {
		p.fan.Office.T.Fatalf("%s answered %d, want %d: %s", p.path, p.Status, status, p.Text())
	}
	return p
}

// Path is where the page was found.
func (p *Page) Path() string { return p.path }

// Form finds the form whose button says text; "" is the form of the seats. A button's own action and method count.
func (p *Page) Form(text string) Form {
	t := p.fan.Office.T
	t.Helper()
	for n := range p.root.Descendants() {
		if n.DataAtom != atom.Button || text != "" && !strings.Contains(content(n), text) || text == "" && attr(n, "form") != "pick" {
			continue
		}
		form := p.formOf(n)
		if form == nil {
			continue
		}
		f := Form{Action: attr(form, "action"), Method: strings.ToLower(attr(form, "method")), Values: url.Values{}, page: p}
		if a := attr(n, "formaction"); a != "" {
			f.Action = a
		}
		if m := attr(n, "formmethod"); m != "" {
			f.Method = m
		}
		for c := range p.root.Descendants() {
			if p.formOf(c) == form {
				collect(c, f.Values)
			}
		}
		return f
	}
	t.Fatalf("%s has no button %q: %s", p.path, text, p.Text())
	return Form{}
}

// formOf is the form that a control belongs to.
func (p *Page) formOf(n *html.Node) *html.Node {
	if id := attr(n, "form"); id != "" {
		return p.byID(id)
	}
	for q := n.Parent; q != nil; q = q.Parent {
		if q.DataAtom == atom.Form {
			return q
		}
	}
	return nil
}

func (p *Page) byID(id string) *html.Node {
	for n := range p.root.Descendants() {
		if attr(n, "id") == id {
			return n
		}
	}
	return nil
}

func collect(n *html.Node, v url.Values) {
	name := attr(n, "name")
	if name == "" || has(n, "disabled") {
		return
	}
	switch n.DataAtom {
	case atom.Input:
		if attr(n, "type") == "checkbox" && !has(n, "checked") {
			return
		}
		v.Add(name, attr(n, "value"))
	case atom.Select:
		var chosen *html.Node // the selected option, or the first one
		for o := range n.Descendants() {
			if o.DataAtom == atom.Option && (chosen == nil || has(o, "selected")) {
				chosen = o
			}
		}
		if chosen != nil {
			v.Add(name, attr(chosen, "value"))
		}
	}
}

func content(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// Link finds the address of a link by its text.
func (p *Page) Link(text string) string {
	p.fan.Office.T.Helper()
	for n := range p.root.Descendants() {
		if n.DataAtom == atom.A && strings.Contains(content(n), text) {
			at, err := url.Parse(p.path)
			must(p.fan.Office.T, err)
			to, err := at.Parse(attr(n, "href"))
			must(p.fan.Office.T, err)
			to.Fragment = ""
			return to.String()
		}
	}
	p.fan.Office.T.Fatalf("%s has no link %q: %s", p.path, text, p.Text())
	return ""
}

// Box is a seat's box in the list: whether it is there, can be chosen, and is.
func (p *Page) Box(seat string) (there, free, chosen bool) {
	for n := range p.root.Descendants() {
		if n.DataAtom == atom.Input && attr(n, "name") == "seat" && attr(n, "value") == seat {
			return true, !has(n, "disabled"), has(n, "checked")
		}
	}
	return false, false, false
}

// Anew is the form as a fresh copy of its page has it, with another key.
func (f Form) Anew() Form { return f.With("key", Key()) }

// With sets a field of a form.
func (f Form) With(name string, values ...string) Form {
	v := url.Values{}
	for k, old := range f.Values {
		v[k] = old
	}
	v[name] = values
	f.Values = v
	return f
}
