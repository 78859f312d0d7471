// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netbox

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// send sends a request for which go-netbox has no operation, or one for each
// type of object. The path is below /api/ and ends with a slash.
func (c *Client) send(ctx context.Context, method, path string, x *exchange, out any) error {
	return c.do(ctx, x, out, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, method, c.url+"/api/"+path, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := c.api.GetConfig().HTTPClient.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// write sends a body as JSON.
func (c *Client) write(ctx context.Context, method, path, doing string, body, out any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return c.send(ctx, method, path, &exchange{doing: doing, body: raw}, out)
}

// listAll reads a list page by page, by ascending id. What has no id in its
// answer is not for this.
func listAll[T interface{ key() int64 }](ctx context.Context, c *Client, path, doing string, query url.Values) ([]T, error) {
	var all []T
	for after := int64(0); ; {
		q := url.Values{"limit": {strconv.Itoa(pageSize)}, "ordering": {"id"}, "id__gte": {strconv.FormatInt(after+1, 10)}}
		maps.Copy(q, query)
		var out page[T]
		if err := c.send(ctx, http.MethodGet, path, &exchange{doing: doing, query: q}, &out); err != nil {
			return nil, err
		}
		before := after
		for _, o := range out.Results {
			after = max(after, o.key())
		}
		all = append(all, out.Results...)
		if int64(len(out.Results)) >= out.Count || after == before {
			return all, nil
		}
	}
}

// one returns the object of a list that fits, or nil. The query narrows the
// list only: NetBox ignores a filter that it does not know.
func one[T interface{ key() int64 }](ctx context.Context, c *Client, path, what string, query url.Values, fits func(T) bool) (*T, error) {
	all, err := listAll[T](ctx, c, path, "looking up "+what+" in NetBox", query)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(o T) bool { return !fits(o) })
	if len(all) == 0 {
		return nil, nil //nolint:nilnil // absence is an answer
	}
	return &all[0], nil
}
