// Show the OpenAPI document with Swagger UI.

/* global SwaggerUIBundle */
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Do not send the document to the validator of a public host.
  validatorUrl: null,
});
