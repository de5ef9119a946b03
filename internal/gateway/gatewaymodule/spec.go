package gatewaymodule

import (
	"encoding/json"
	"fmt"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/internal/openapi"
)

// OpenAPI gives the gateway's own part of the document. Two answers are not as the kit writes them down.
func (m *Module) OpenAPI() ([]byte, error) {
	raw, err := m.kit.OpenAPI()
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("read own OpenAPI document: %w", err)
	}
	// /ready says 503 with the body that it says 200 with, so that monitors need to read one form only.
	ready := dig(doc, "paths", "/ready", "get", "responses")
	ready["503"] = map[string]any{"description": "At least one module is not ready.", "content": dig(ready, "200")["content"]}
	dig(doc, "paths", "/api/v1/openapi.json", "get", "responses", "200", "content", "application/json")["schema"] = map[string]any{"type": "object"}
	return json.Marshal(doc)
}

// dig walks objects that are known to be there.
func dig(v map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		next, ok := v[k].(map[string]any)
		if !ok {
			return map[string]any{}
		}
		v = next
	}
	return v
}

func (m *Module) mergeSpecs() ([]byte, error) {
	var parts []openapi.Part
	for _, s := range m.Surfaces() {
		raw, err := s.OpenAPI()
		if err != nil {
			return nil, fmt.Errorf("OpenAPI document of %s: %w", s.Name(), err)
		}
		parts = append(parts, openapi.Part{Name: s.Name(), JSON: raw})
	}
	return openapi.Merge(openapi.About{
		Title: "NovaCron", Version: gateway.APIVersion,
		Description: "The API of a cloud of virtual machines. Errors are `application/problem+json`; their codes are listed under [/docs/errors](/docs/errors). " +
			"Paths without a version, such as `/api/vms`, stand for `/api/v1`. Every answer names its version in `API-Version` and the request in " +
			"`X-Request-ID`. What a caller needs for an operation is in its `x-permission`.",
		Schemes: map[string]any{
			"bearer": map[string]any{"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
				"description": "An access token; POST /auth/login gives one."},
			"api_key": map[string]any{"type": "apiKey", "in": "header", "name": "X-API-Key",
				"description": "An API key; POST /api/v1/api-keys gives one. It does what its owner may, except what concerns their logins."},
		},
		Tags: map[string]string{
			"auth": "Logging in and out.", "api-keys": "Keys for programs, which act for a user or a service account.",
			"service-accounts": "Users that are no people.", "vms": "Virtual machines.", "images": "Disk images that machines are made from.",
			"networks": "Virtual networks.", "operations": "Work that goes on in the background.", "nodes": "Hypervisors.",
			"scheduler": "Placement, allocations and quotas.", "multicloud": "Machines of several sites and clouds.",
			"monitoring": "How the installation does.", "gateway": "The front door itself.",
			tagOperations: "For load balancers, monitors and clients that want to know whom they talk to.", tagDocs: "What you read now.",
		},
	}, parts)
}
