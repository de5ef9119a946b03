// Package httpx is the one HTTP kit: every module registers its REST routes through it, and nothing else imports huma.
//
// A module makes an API with New, registers typed handlers with Handle and byte streams (uploads, server-sent events,
// websockets) with API.Raw, and hands API.Routes, API.Handler and API.OpenAPI to the gateway by way of the composition root.
// The kit checks the permission that each route declares against the Principal in the context, refuses bad input
// in the order that the API promises (401, 403, 413/415, 400, 422, then the handler), and turns every error into problem+json.
package httpx
