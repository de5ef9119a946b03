// Shows the merged OpenAPI document. It is a file of its own because the page's policy forbids scripts inside the page.
window.ui = SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "none",
  filter: true,
  operationsSorter: "alpha",
  tagsSorter: "alpha",
  showExtensions: true,
  persistAuthorization: false,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
