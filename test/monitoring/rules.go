package monitoring

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Rule is one rule of a rule file: a recording rule, or an alert.
type Rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// Name is the rule's name, with an alert's threshold if it has one.
func (r *Rule) Name() string {
	if r.Record != "" {
		return r.Record
	}
	return strings.TrimSpace(r.Alert + " " + r.Labels["threshold"])
}

// Group is rules that are evaluated one after the other.
type Group struct {
	Name  string `yaml:"name"`
	Rules []Rule `yaml:"rules"`
}

// ruleFiles are the rule files, relative to the repository's root.
func ruleFiles() []string {
	return []string{filepath.Join("deploy", "prometheus", "rules.yaml"), filepath.Join("deploy", "prometheus", "alerts.yaml")}
}

// ReadGroups reads the groups of both rule files of a repository.
func ReadGroups(root string) ([]Group, error) {
	var all []Group
	for _, name := range ruleFiles() {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, fmt.Errorf("read the rules: %w", err)
		}
		var file struct {
			Groups []Group `yaml:"groups"`
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		all = append(all, file.Groups...)
	}
	return all, nil
}

var (
	// comparison is one with a number: "> 0.1", ">= 0.5 < 0.8" are two.
	comparison = regexp.MustCompile(`\s*(?:[<>]=?|[=!]=)\s*[0-9][0-9.e]*`)
	// setOperator is one between two expressions, with what it matches on.
	setOperator = regexp.MustCompile(`^\s(?:and|or|unless)\s+(?:on \([^)]*\)\s*)?`)
	// selector is a metric with its labels; a name in quotes is none.
	selector = regexp.MustCompile(`(?:^|[^"\w:])((?:ratelimitd_|assistant_|process_|go_|namespace_job|up\b)[\w:]*(?:\{[^}]*\})?)`)
)

// Parts returns what an alert's expression looks at: its comparisons with numbers are left out, and it is cut at the operators
// "and", "or" and "unless" that stand in no parentheses of an aggregation or a range.
func Parts(expr string) []string {
	expr = comparison.ReplaceAllString(strings.TrimSpace(expr), "")
	var parts []string
	depth, from := 0, 0
	for i := 0; i < len(expr); i++ {
		switch expr[i] {
		case '(', '{', '[':
			depth++
		case ')', '}', ']':
			depth--
		}
		if depth > 0 {
			continue
		}
		if operator := setOperator.FindString(expr[i:]); operator != "" {
			parts = append(parts, expr[from:i])
			from, i = i+len(operator), i+len(operator)-1
		}
	}
	parts = append(parts, expr[from:])
	var inner []string
	for _, part := range parts {
		part = strings.TrimSpace(part)
		if strings.HasPrefix(part, "(") && strings.HasSuffix(part, ")") {
			inner = append(inner, Parts(part[1:len(part)-1])...)
			continue
		}
		inner = append(inner, part)
	}
	return inner
}

// Selectors returns the metrics of an expression, each with its labels.
func Selectors(expr string) []string {
	var found []string
	for _, match := range selector.FindAllStringSubmatch(grouping.ReplaceAllString(expr, ""), -1) {
		found = append(found, match[1])
	}
	return found
}

// grouping is the labels of an aggregation, which are no metrics.
var grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
