// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// doc is a JSON object that keeps the order of its keys, as NetBox does: that
// is easier to read for people.
type doc []kv

// kv is a key with its value.
type kv struct {
	k string
	v any
}

// writeJSON appends v. Types that it does not know go to encoding/json, which
// must be able to encode them.
func writeJSON(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case int:
		b.WriteString(strconv.Itoa(v))
	case doc:
		writeDoc(b, v)
	case fieldErrors:
		writeMap(b, v)
	case []fieldErrors:
		writeList(b, v)
	case map[string]any:
		writeMap(b, v)
	case []doc:
		writeList(b, v)
	case []any:
		writeList(b, v)
	case []string:
		writeList(b, v)
	case []int64:
		writeList(b, v)
	default:
		writeOther(b, v)
	}
}

// writeDoc appends an object in its own order.
func writeDoc(b *bytes.Buffer, d doc) {
	b.WriteByte('{')
	for i, e := range d {
		if i > 0 {
			b.WriteByte(',')
		}
		writeOther(b, e.k)
		b.WriteByte(':')
		writeJSON(b, e.v)
	}
	b.WriteByte('}')
}

// writeMap appends an object by ascending keys.
func writeMap(b *bytes.Buffer, m map[string]any) {
	var d doc
	for _, k := range slices.Sorted(maps.Keys(m)) {
		d = append(d, kv{k, m[k]})
	}
	writeDoc(b, d)
}

// writeList appends a list. A nil one is empty, as lists in NetBox are never null.
func writeList[T any](b *bytes.Buffer, l []T) {
	b.WriteByte('[')
	for i, v := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		writeJSON(b, v)
	}
	b.WriteByte(']')
}

// writeOther appends a text, or what encoding/json can write.
func writeOther(b *bytes.Buffer, v any) {
	if s, ok := v.(string); ok && plain(s) {
		b.WriteByte('"')
		b.WriteString(s)
		b.WriteByte('"')
		return
	}
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("netboxtest: value of type %T cannot be written as JSON: %v", v, err))
	}
	b.Truncate(b.Len() - 1) // the newline that Encode appends
}

// plain reports whether s needs no escaping.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// decodeJSON reads one JSON value; numbers stay json.Number.
func decodeJSON(b []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("decoding: extra data after the first value")
	}
	return v, nil
}

// integer reads a JSON number, or a string that holds one, as Django does.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		return n, err == nil
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		return n, err == nil
	case int64:
		return v, true
	case int:
		return int64(v), true
	case float64:
		return int64(v), v == float64(int64(v))
	}
	return 0, false
}
