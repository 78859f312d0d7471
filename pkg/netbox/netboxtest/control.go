// Copyright The bm-ccm Authors.
// SPDX-License-Identifier: Apache-2.0

package netboxtest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// serveControl answers the control endpoints, which need no token:
//
//	GET    /_control/faults       the faults, with their ids
//	PUT    /_control/faults       replaces all faults by a list of them
//	POST   /_control/faults       adds one fault, answers its id
//	DELETE /_control/faults       removes all faults
//	DELETE /_control/faults/<id>  removes one
//	GET    /_control/requests     the requests so far, and counts of them
//	DELETE /_control/requests     forgets them
//	POST   /_control/ui           writes addresses as the web UI does, past all locks
//	POST   /_control/seed         puts in a seed
func (s *Server) serveControl(w http.ResponseWriter, r *http.Request) {
	what, id, _ := strings.Cut(strings.Trim(strings.TrimPrefix(r.URL.Path, "/_control/"), "/"), "/")
	switch {
	case what == "faults" && id != "":
		s.controlFault(w, r, id)
	case what == "faults":
		s.controlFaults(w, r)
	case what == "requests" && r.Method == http.MethodGet:
		controlJSON(w, http.StatusOK, map[string]any{
			"requests": s.Requests(), "counts": s.RequestCounts(), "violations": s.Violations(),
		})
	case what == "requests" && r.Method == http.MethodDelete:
		s.ResetRequests()
		w.WriteHeader(http.StatusNoContent)
	case what == "ui" && r.Method == http.MethodPost:
		s.controlUI(w, r)
	case what == "seed" && r.Method == http.MethodPost:
		var seed Seed
		if readControl(w, r, &seed) {
			controlDone(w, s.Apply(&seed))
		}
	default:
		controlError(w, http.StatusNotFound, "no such control: try faults, requests, ui or seed")
	}
}

// controlFaults lists, adds and removes all faults.
func (s *Server) controlFaults(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		controlJSON(w, http.StatusOK, s.faults.listed())
	case http.MethodPost:
		var f Fault
		if readControl(w, r, &f) {
			id, err := s.faults.add(f)
			if err != nil {
				controlError(w, http.StatusBadRequest, err.Error())
				return
			}
			controlJSON(w, http.StatusCreated, map[string]int{"id": id})
		}
	case http.MethodPut:
		var fs []Fault
		if readControl(w, r, &fs) {
			controlDone(w, s.faults.replace(fs))
		}
	case http.MethodDelete:
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	default:
		controlError(w, http.StatusMethodNotAllowed, "want GET, POST, PUT or DELETE")
	}
}

// controlFault removes one fault.
func (s *Server) controlFault(w http.ResponseWriter, r *http.Request, text string) {
	id, err := strconv.Atoi(text)
	switch {
	case r.Method != http.MethodDelete:
		controlError(w, http.StatusMethodNotAllowed, "want DELETE")
	case err != nil || id <= 0 || !s.faults.remove(id):
		controlError(w, http.StatusNotFound, "no fault "+text)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// listedFault is a fault as the control shows it.
type listedFault struct {
	ID   int `json:"id"`
	Seen int `json:"seen"`
	Fault
}

// listed are the faults that were not removed, those that are used up included.
func (l *faultList) listed() []listedFault {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []listedFault{}
	for _, f := range l.list {
		out = append(out, listedFault{f.id, f.seen, f.Fault})
	}
	return out
}

// replace removes all faults and adds others.
func (l *faultList) replace(fs []Fault) error {
	l.remove(0)
	for _, f := range fs {
		if _, err := l.add(f); err != nil {
			return err
		}
	}
	return nil
}

// controlUI writes an address as NetBox's own web pages do.
func (s *Server) controlUI(w http.ResponseWriter, r *http.Request) {
	var data map[string]any
	if !readControl(w, r, &data) {
		return
	}
	id, err := s.WriteBehindBack(data)
	if err != nil {
		controlError(w, http.StatusBadRequest, err.Error())
		return
	}
	controlJSON(w, http.StatusCreated, map[string]int64{"id": id})
}

// readControl decodes a body strictly: an unknown fault must not pass for one
// that does nothing.
func readControl(w http.ResponseWriter, r *http.Request, into any) bool {
	b, err := io.ReadAll(r.Body)
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		err = dec.Decode(into)
	}
	if err != nil {
		controlError(w, http.StatusBadRequest, "body: "+err.Error())
		return false
	}
	return true
}

// controlDone answers a command.
func controlDone(w http.ResponseWriter, err error) {
	if err != nil {
		controlError(w, http.StatusBadRequest, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// controlError answers a command that cannot be followed. The answers below
// /_control/ are ours, not NetBox's, so they may be plain.
func controlError(w http.ResponseWriter, status int, text string) {
	controlJSON(w, status, map[string]string{"error": text})
}

// controlJSON answers a question.
func controlJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"`+strconv.Quote(err.Error())+`"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that went away needs no answer
}
