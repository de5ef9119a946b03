package apiclient

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// FlavorCreate is the body that creates a flavor.
type FlavorCreate struct {
	Name        string       `json:"name"`
	Description string       `json:"description,omitempty"`
	Resources   vm.Resources `json:"resources"`
}

// FlavorUpdate is the body that changes one; nil leaves as it is.
type FlavorUpdate struct {
	Name        *string      `json:"name,omitempty"`
	Description *string      `json:"description,omitempty"`
	Resources   *VMResources `json:"resources,omitempty"`
}

// ListFlavors gives the named sizes; name may be empty.
func (c *Client) ListFlavors(ctx context.Context, name string) iter.Seq2[Object[vm.Flavor], error] {
	return list[vm.Flavor](ctx, c, "/api/v1/flavors", url.Values{"name": {name}}, 0)
}

// CreateFlavor creates a flavor.
func (c *Client) CreateFlavor(ctx context.Context, body FlavorCreate) (Object[vm.Flavor], error) {
	return post[vm.Flavor](ctx, c, "/api/v1/flavors", body)
}

// UpdateFlavor changes a flavor.
func (c *Client) UpdateFlavor(ctx context.Context, id uuid.UUID, body FlavorUpdate) (Object[vm.Flavor], error) {
	return patch[vm.Flavor](ctx, c, "/api/v1/flavors/"+id.String(), body)
}

// DeleteFlavor deletes a flavor.
func (c *Client) DeleteFlavor(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/flavors/" + id.String()}, nil)
}

// SSHKeyCreate is the body that keeps a public key.
type SSHKeyCreate struct {
	Name      string `json:"name"`
	PublicKey string `json:"public_key"`
}

// ListSSHKeys gives the SSH keys of the tenant, newest first; name may be empty, most 0.
func (c *Client) ListSSHKeys(ctx context.Context, name string, most int) iter.Seq2[Object[vm.SSHKey], error] {
	return list[vm.SSHKey](ctx, c, "/api/v1/ssh-keys", url.Values{"name": {name}}, most)
}

// CreateSSHKey keeps a public key.
func (c *Client) CreateSSHKey(ctx context.Context, body SSHKeyCreate) (Object[vm.SSHKey], error) {
	return post[vm.SSHKey](ctx, c, "/api/v1/ssh-keys", body)
}

// DeleteSSHKey removes a public key; guests keep theirs.
func (c *Client) DeleteSSHKey(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/ssh-keys/" + id.String()}, nil)
}

// TemplateCreate is the body that creates a template: by a spec, or from a virtual machine.
type TemplateCreate struct {
	Name        string           `json:"name"`
	Description string           `json:"description,omitempty"`
	Visibility  vm.Visibility    `json:"visibility,omitempty"`
	Spec        *vm.TemplateSpec `json:"spec,omitempty"`
	VMID        *uuid.UUID       `json:"vm_id,omitempty"`
}

// TemplateUpdate is the body that changes one; nil leaves as it is.
type TemplateUpdate struct {
	Name        *string          `json:"name,omitempty"`
	Description *string          `json:"description,omitempty"`
	Visibility  *vm.Visibility   `json:"visibility,omitempty"`
	Spec        *vm.TemplateSpec `json:"spec,omitempty"`
}

// ListTemplates gives the templates that the caller may use, newest first; name may be empty, most 0.
func (c *Client) ListTemplates(ctx context.Context, name string, most int) iter.Seq2[Object[vm.Template], error] {
	return list[vm.Template](ctx, c, "/api/v1/templates", url.Values{"name": {name}}, most)
}

// GetTemplate reads a template.
func (c *Client) GetTemplate(ctx context.Context, id uuid.UUID) (Object[vm.Template], error) {
	return get[vm.Template](ctx, c, "/api/v1/templates/"+id.String())
}

// CreateTemplate creates a template.
func (c *Client) CreateTemplate(ctx context.Context, body TemplateCreate) (Object[vm.Template], error) {
	return post[vm.Template](ctx, c, "/api/v1/templates", body)
}

// UpdateTemplate changes a template.
func (c *Client) UpdateTemplate(ctx context.Context, id uuid.UUID, body TemplateUpdate) (Object[vm.Template], error) {
	return patch[vm.Template](ctx, c, "/api/v1/templates/"+id.String(), body)
}

// DeleteTemplate deletes a template.
func (c *Client) DeleteTemplate(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/templates/" + id.String()}, nil)
}
