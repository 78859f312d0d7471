// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
)

// PageSize is how many objects a list is asked for at once, which is what
// NetBox gives at most unless configured otherwise (MAX_PAGE_SIZE).
const PageSize = 1000

// Page is a page of a list.
type Page[T any] struct {
	// Count is how many objects the filter finds, on this page or not.
	Count   int64 `json:"count"`
	Results []T   `json:"results"`
}

// List reads a list to its end, by ascending id. id returns an object's id;
// check, unless nil, why the list should not have an object.
//
// Pages are asked for by id and not by offset: what is deleted meanwhile would
// move the objects behind it to a page that was read already. A NetBox that
// gives smaller pages than asked for says so only by Count.
func List[T any](ctx context.Context, c *Client, r Request, id func(T) int64, check func(T) error) ([]T, error) {
	query := maps.Clone(r.Query)
	if query == nil {
		query = url.Values{}
	}
	query.Set("ordering", "id")
	query.Set("limit", strconv.Itoa(PageSize))
	r.Query = query
	var all []T
	for after := int64(0); ; {
		query.Set("id__gte", strconv.FormatInt(after+1, 10))
		var page Page[T]
		if err := c.Do(ctx, r, &page); err != nil {
			return nil, err
		}
		for _, o := range page.Results {
			if check != nil {
				if err := check(o); err != nil {
					return nil, err
				}
			}
			if id(o) <= after {
				// Otherwise this would never end, or leave something out.
				return nil, &UnavailableError{Doing: r.Doing, Err: fmt.Errorf("NetBox does not page by id: %d comes after %d", id(o), after)}
			}
			after = id(o)
		}
		all = append(all, page.Results...)
		if int64(len(page.Results)) >= page.Count || len(page.Results) == 0 {
			return all, nil
		}
	}
}

// FindOne returns the object of a list that fits, the one with the lowest id of
// several, or nil. The query narrows the list only: NetBox ignores a filter that
// it does not know. what names the object in errors.
func FindOne[T interface{ Key() int64 }](ctx context.Context, c *Client, path, what string, query url.Values, fits func(T) bool) (*T, error) {
	all, err := List(ctx, c, Request{Doing: "looking up " + what + " in NetBox", Path: path, Query: query}, T.Key, nil)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(all, fits); i >= 0 {
		return &all[i], nil
	}
	return nil, nil //nolint:nilnil // absence is an answer
}
