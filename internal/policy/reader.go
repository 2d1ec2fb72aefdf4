package policy

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// value is a YAML value that has the shape that it should have. A nil value stands for one that is missing, or that was
// wrong and is reported: reading from it gives zeros, so that one mistake is told once.
type value struct {
	place

	text   string
	flag   bool
	names  []string // of fields, in the order of the file
	fields map[string]*value
	places map[string]place // where the names of the fields stand
	items  []*value
}

// get returns a field, nil if it is missing or wrong.
func (v *value) get(name string) *value {
	if v == nil {
		return nil
	}
	return v.fields[name]
}

// has tells whether a field stands there, right or wrong.
func (v *value) has(name string) bool {
	return v != nil && slices.Contains(v.names, name)
}

// str returns a text, empty if it is missing or wrong.
func (v *value) str() string {
	if v == nil {
		return ""
	}
	return v.text
}

// yes returns a flag, false if it is missing or wrong.
func (v *value) yes() bool { return v != nil && v.flag }

// list returns the items that are right.
func (v *value) list() []*value {
	if v == nil {
		return nil
	}
	return v.items
}

// at returns where a value stands; where its name stands, if the value itself is missing.
func (v *value) at(name string) place {
	if field := v.get(name); field != nil {
		return field.place
	}
	if v == nil {
		return place{}
	}
	if at, found := v.places[name]; found {
		return at
	}
	return v.place
}

// yamlLine finds the line in an error of the YAML package.
var yamlLine = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?`)

// readYAML reads one document and checks it against a shape. What is wrong goes to the report; then nil, or the part
// that is right, is returned.
func (r *report) readYAML(data []byte, sh *shape) *value {
	if at := bytes.IndexByte(data, 0); at >= 0 {
		r.wrong(place{line: lineOf(data, at)}, "holds a NUL byte; write plain text")
		return nil
	}
	if !utf8.Valid(data) {
		r.wrong(place{line: lineOf(data, firstInvalid(data))}, "is not UTF-8; save the file as UTF-8")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) || (err == nil && len(document.Content) == 0) {
		r.wrong(place{}, "is empty; write at least %s", required(sh))
		return nil
	} else if err != nil {
		r.wrongYAML(err)
		return nil
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		r.wrong(place{line: second.Line, column: second.Column}, "holds a second document; write one policy per file, without ---")
		return nil
	} else if !errors.Is(err, io.EOF) {
		r.wrongYAML(err)
		return nil
	}
	return r.read(document.Content[0], sh, "")
}

// wrongYAML reports a text that is not YAML.
func (r *report) wrongYAML(err error) {
	text := err.Error()
	match := yamlLine.FindStringSubmatch(text)
	var at place
	if match != nil {
		at.line, _ = strconv.Atoi(match[1]) // no line is line 0: the file as a whole
		text = strings.TrimPrefix(text, match[0])
	}
	r.wrong(at, "is not YAML: %s; look for a wrong indentation, an open quote or a missing colon there or just above", text)
}

// required says in words which fields an object must have.
func required(sh *shape) string {
	var names []string
	for _, f := range sh.fields {
		if f.required {
			names = append(names, f.name)
		}
	}
	if sh.exactlyOne != nil {
		names = append(names, strings.Join(sh.exactlyOne, " or "))
	}
	return strings.Join(names, " and ")
}

// read checks a node against a shape.
func (r *report) read(n *yaml.Node, sh *shape, path string) *value {
	at := place{line: n.Line, column: n.Column, field: path}
	if n.Kind == yaml.AliasNode {
		r.wrong(at, "is an alias (*%s), which a policy may not have; write the value itself, or name a plan", n.Value)
		return nil
	}
	if n.Kind == yaml.ScalarNode && sh.short != nil {
		sh = sh.short
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		r.wrong(at, "is empty; write %s, or leave the field out", sh.wanted())
		return nil
	}
	v := &value{place: at}
	ok := false
	switch {
	case sh.kind == objectKind && isTagged(n, yaml.MappingNode, "!!map"):
		ok = r.readObject(n, sh, v)
	case sh.kind == dictKind && isTagged(n, yaml.MappingNode, "!!map"):
		ok = r.readDict(n, sh, v)
	case sh.kind == listKind && isTagged(n, yaml.SequenceNode, "!!seq"):
		ok = r.readList(n, sh, v)
	case sh.kind == flagKind && isTagged(n, yaml.ScalarNode, "!!bool"):
		v.flag, ok = strings.EqualFold(n.Value, "true"), true
	case sh.kind == textKind && n.Kind == yaml.ScalarNode:
		ok = r.readText(n, sh, v)
	default:
		r.wrong(at, "is %s; write %s", nodeText(n), sh.wanted())
	}
	if !ok {
		return nil
	}
	return v
}

// isTagged tells whether a node is of a kind, and not tagged to be something else.
func isTagged(n *yaml.Node, kind yaml.Kind, tag string) bool {
	return n.Kind == kind && n.ShortTag() == tag
}

// readObject reads the fields of an object. A field that is wrong does not make the object wrong.
func (r *report) readObject(n *yaml.Node, sh *shape, v *value) bool {
	known := make([]string, 0, len(sh.fields))
	for _, f := range sh.fields {
		known = append(known, f.name)
	}
	r.eachField(n, v, func(name string, at place, content *yaml.Node) *value {
		index := slices.Index(known, name)
		if index < 0 {
			r.wrong(at, "unknown field; write one of %s%s", strings.Join(known, ", "), didYouMean(name, known))
			return nil
		}
		return r.read(content, sh.fields[index].shape, at.field)
	})
	for _, f := range sh.fields {
		if f.required && !v.has(f.name) {
			r.wrong(place{v.line, v.column, join(v.field, f.name)}, "is missing; write %s", f.shape.wanted())
		}
	}
	if len(sh.exactlyOne) == 0 {
		return true
	}
	count := 0
	for _, name := range sh.exactlyOne {
		if v.has(name) {
			count++
		}
	}
	if count != 1 {
		r.wrong(v.place, "has %d of %s; write exactly one of them", count, strings.Join(sh.exactlyOne, " and "))
	}
	return count == 1
}

// readDict reads names of the writer's choice with their values.
func (r *report) readDict(n *yaml.Node, sh *shape, v *value) bool {
	r.eachField(n, v, func(name string, at place, content *yaml.Node) *value {
		switch {
		case !sh.names.MatchString(name):
			r.wrong(at, "%s is not a name here; write %s", quoted(name), sh.namesText)
		case slices.Contains(sh.reserved, name):
			r.wrong(at, "is a name that ratelimitd uses itself; write another one")
		}
		return r.read(content, sh.item, at.field)
	})
	return r.checkCount(sh, v, len(n.Content)/2)
}

// checkCount holds the number of entries of a dict or a list to its bounds.
func (r *report) checkCount(sh *shape, v *value, count int) bool {
	switch {
	case count < sh.least:
		r.wrong(v.place, "has no entries; write at least %d", sh.least)
	case sh.most > 0 && count > sh.most:
		r.wrong(v.place, "has %d entries; write at most %d", count, sh.most)
	default:
		return true
	}
	return false
}

// eachField goes through the names of a mapping and keeps what read returns for each.
func (r *report) eachField(n *yaml.Node, v *value, read func(string, place, *yaml.Node) *value) {
	v.fields, v.places = map[string]*value{}, map[string]place{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, content := n.Content[i], n.Content[i+1]
		at := place{line: key.Line, column: key.Column, field: v.field}
		switch {
		case key.ShortTag() == "!!merge":
			r.wrong(at, "is a merge key (<<), which a policy may not have; write the fields themselves")
			continue
		case key.Kind != yaml.ScalarNode:
			r.wrong(at, "has a name that is %s; write a plain name", nodeText(key))
			continue
		case key.ShortTag() != "!!str":
			r.wrong(at, "has a name that is %s; write it in quotes: %s", nodeText(key), strconv.Quote(key.Value))
			continue
		}
		at.field = join(v.field, key.Value)
		if first, found := v.places[key.Value]; found {
			r.wrong(at, "stands twice, first in line %d; leave one of them out", first.line)
			continue
		}
		v.places[key.Value] = at
		v.names = append(v.names, key.Value)
		if found := read(key.Value, at, content); found != nil {
			v.fields[key.Value] = found
		}
	}
}

// readList reads the items of a list.
func (r *report) readList(n *yaml.Node, sh *shape, v *value) bool {
	for i, content := range n.Content {
		if item := r.read(content, sh.item, v.field+"["+strconv.Itoa(i)+"]"); item != nil {
			v.items = append(v.items, item)
		}
	}
	return r.checkCount(sh, v, len(n.Content))
}

// readText reads a text.
func (r *report) readText(n *yaml.Node, sh *shape, v *value) bool {
	v.text = n.Value
	if sh.check != nil {
		if err := sh.check(n.Value); err != nil {
			r.wrong(v.place, "%v", err)
			return false
		}
		return true
	}
	switch {
	case n.ShortTag() != "!!str":
		r.wrong(v.place, "is %s; write it in quotes: %s", nodeText(n), strconv.Quote(n.Value))
	case sh.values != nil && !slices.Contains(sh.values, n.Value):
		r.wrong(v.place, "%s is not known; write %s%s", quoted(n.Value), sh.wanted(), didYouMean(n.Value, sh.values))
	case slices.Contains(sh.reserved, n.Value):
		r.wrong(v.place, "%s is a name that ratelimitd uses itself; write another one", quoted(n.Value))
	case sh.pattern != nil && !sh.pattern.MatchString(n.Value):
		r.wrong(v.place, "%s does not fit; write %s", quoted(n.Value), sh.wanted())
	default:
		return true
	}
	return false
}

// wanted says in words what to write for a shape.
func (sh *shape) wanted() string {
	switch sh.kind {
	case objectKind:
		if sh.short != nil {
			return sh.short.wanted()
		}
		if names := required(sh); names != "" {
			return "fields under it: " + names
		}
		return "fields under it, as " + sh.fields[0].name
	case dictKind:
		return "names with fields under them"
	case listKind:
		if sh.item.short != nil {
			return "a list, as [10/minute, 100/hour]"
		}
		return "a list"
	case flagKind:
		return "true or false"
	case textKind:
		if sh.values != nil {
			return strings.Join(sh.values, " or ")
		}
		return sh.patternText
	default:
		return "another value"
	}
}

// nodeText says in words what a node is.
func nodeText(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	case yaml.ScalarNode, yaml.DocumentNode:
	}
	switch n.ShortTag() {
	case "!!str":
		return "the text " + quoted(n.Value)
	case "!!int", "!!float":
		return "the number " + quoted(n.Value)
	case "!!bool":
		return "the flag " + quoted(n.Value)
	case "!!null":
		return "empty"
	default:
		return quoted(n.Value) + " of the type " + quoted(n.ShortTag())
	}
}

// join adds a name to the way to a field. A name with a dot or a space is quoted.
func join(path, name string) string {
	if strings.ContainsAny(name, ". \t\n\"[]") || len(name) > shownText || name == "" {
		name = quoted(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// lineOf returns the line of a byte.
func lineOf(data []byte, at int) int { return 1 + bytes.Count(data[:at], []byte{'\n'}) }

// firstInvalid returns where the first byte stands that is not UTF-8.
func firstInvalid(data []byte) int {
	at := 0
	for at < len(data) {
		char, size := utf8.DecodeRune(data[at:])
		if char == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}
