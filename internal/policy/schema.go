package policy

import (
	"encoding/json"
	"fmt"
)

//go:generate go run ./schemagen -o ../../configs/policy.schema.json

// Schema returns the JSON Schema (draft 2020-12) of a policy file, for editors. It is made from the description that
// the reader checks by; its patterns use only what Go and ECMAScript write alike. It cannot tell what takes two places,
// as a plan that does not exist, nor what takes arithmetic, as an overflow.
func Schema() ([]byte, error) {
	defined := map[string]any{}
	schema := policyShape().schema(defined)
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "ratelimitd policy"
	schema["$defs"] = defined
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the policy's JSON Schema: %w", err)
	}
	return append(text, '\n'), nil
}

// schema returns the shape as a JSON Schema. Shapes that stand in several places go to defined, once.
func (sh *shape) schema(defined map[string]any) map[string]any {
	if sh.define == "" {
		return sh.inline(defined)
	}
	if _, found := defined[sh.define]; !found {
		defined[sh.define] = sh.inline(defined)
	}
	return map[string]any{"$ref": "#/$defs/" + sh.define}
}

// exclude says in the schema of a text what may not be written.
func (sh *shape) exclude(schema map[string]any) {
	if sh.reserved != nil {
		schema["not"] = map[string]any{"enum": sh.reserved}
	}
}

// inline returns the shape as a JSON Schema in place.
func (sh *shape) inline(defined map[string]any) map[string]any {
	schema := map[string]any{}
	switch sh.kind {
	case objectKind:
		sh.objectSchema(schema, defined)
	case dictKind:
		schema["type"] = "object"
		names := map[string]any{"pattern": sh.names.String()}
		sh.exclude(names)
		schema["propertyNames"] = names
		schema["additionalProperties"] = sh.item.schema(defined)
		bound(schema, "minProperties", sh.least)
		bound(schema, "maxProperties", sh.most)
	case listKind:
		schema["type"] = "array"
		schema["items"] = sh.item.schema(defined)
		bound(schema, "minItems", sh.least)
		bound(schema, "maxItems", sh.most)
	case flagKind:
		schema["type"] = "boolean"
	case textKind:
		schema["type"] = "string"
		if sh.number != "" {
			schema["type"], schema["minimum"] = []string{"string", sh.number}, 0
		}
		if sh.pattern != nil {
			schema["pattern"] = sh.pattern.String()
		}
		if sh.values != nil {
			schema["enum"] = sh.values
		}
		sh.exclude(schema)
	}
	switch sh.fallback {
	case "":
	case "true", "false":
		schema["default"] = sh.fallback == "true"
	default:
		schema["default"] = sh.fallback
	}
	if sh.short != nil {
		schema = map[string]any{"anyOf": []any{sh.short.schema(defined), schema}}
	}
	schema["description"] = sh.doc
	return schema
}

// bound adds a bound, unless it is 0: none.
func bound(schema map[string]any, keyword string, number int) {
	if number > 0 {
		schema[keyword] = number
	}
}

// objectSchema adds an object's fields.
func (sh *shape) objectSchema(schema, defined map[string]any) {
	properties := map[string]any{}
	var required []string
	for _, f := range sh.fields {
		properties[f.name] = f.shape.schema(defined)
		if f.required {
			required = append(required, f.name)
		}
	}
	schema["type"], schema["properties"], schema["additionalProperties"] = "object", properties, false
	if required != nil {
		schema["required"] = required
	}
	if sh.exactlyOne != nil {
		var choices []any
		for _, name := range sh.exactlyOne {
			choices = append(choices, map[string]any{"required": []string{name}})
		}
		schema["oneOf"] = choices
	}
}
