package gateway

import (
	_ "embed"
	"net/http"
)

// openapiJSON describes the API. A test holds it and the routes equal, and every
// tested answer is checked against it.
//
//go:embed openapi.json
var openapiJSON []byte

func (g *Gateway) openapi(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(openapiJSON)
	return err
}
