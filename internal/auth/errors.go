package auth

import "github.com/novacron/novacron/internal/platform/errs"

const logInAgain = "Log in again."

// The errors of the auth module.
var (
	ErrInvalidToken   = errs.New(errs.Unauthenticated, "auth.invalid_token", "the token is not one of ours").WithAction(logInAgain)
	ErrTokenExpired   = errs.New(errs.Unauthenticated, "auth.token_expired", "the token has expired").WithAction("POST /auth/refresh gives a new one.")
	ErrSessionRevoked = errs.New(errs.Unauthenticated, "auth.session_revoked", "the session has ended").WithAction(logInAgain)
	ErrSessionExpired = errs.New(errs.Unauthenticated, "auth.session_expired", "the session has expired").WithAction(logInAgain)
	// ErrInvalidCredentials is the one answer for an unknown user, a wrong password, and a disabled user or tenant.
	ErrInvalidCredentials = errs.New(errs.Unauthenticated, "auth.invalid_credentials", "the user name or the password is wrong")
	ErrThrottled          = errs.New(errs.Throttled, "auth.throttled", "too many failed attempts").
				WithAction("Wait as long as Retry-After says, then try again.")
	ErrBusy = errs.New(errs.Unavailable, "auth.busy", "too many passwords are being checked at this moment").
		WithAction("Try again in a few seconds.")
	ErrUnavailable = errs.New(errs.Unavailable, "auth.unavailable", "whether the session still counts cannot be told at this moment").
			WithAction("Try again; the operator finds the cause in the log of the auth module.")

	// ErrInvalidAPIKey is the one answer for what is no key at all, an unknown key and a wrong secret.
	ErrInvalidAPIKey = errs.New(errs.Unauthenticated, "auth.invalid_api_key", "the API key is not one of ours").
				WithAction("See that the key was copied whole and that its secret has not been rotated since.")
	ErrAPIKeyExpired = errs.New(errs.Unauthenticated, "auth.api_key_expired", "the API key has expired").
				WithAction("Make a new one: POST /api/v1/api-keys.")
	ErrAPIKeyRevoked = errs.New(errs.Unauthenticated, "auth.api_key_revoked", "the API key does not count any more").
				WithAction("It was revoked, or its owner is out of use. Ask who manages the account for a new one.")
	ErrLoginNeeded = errs.New(errs.Forbidden, "auth.login_needed", "an API key cannot do this").
			WithAction("Log in as a person: POST /auth/login.")
	ErrAPIKeyNotFound    = errs.New(errs.NotFound, "auth.api_key_not_found", "there is no such API key")
	ErrTooManyAPIKeys    = errs.New(errs.Conflict, "auth.too_many_api_keys", "the account has as many API keys as it may have").WithAction("Revoke those that are not used.")
	ErrTooManySecrets    = errs.New(errs.Conflict, "auth.too_many_secrets", "too many old secrets of the key still work").WithAction("Wait until one has ended, or rotate with an overlap of 0, which ends them all.")
	ErrInvalidAPIKeySpec = errs.New(errs.Invalid, "auth.invalid_api_key_spec", "the API key cannot be as it was asked for")
	ErrServiceAccount    = errs.New(errs.Conflict, "auth.service_account", "a service account has no password").WithAction("It uses API keys: POST /api/v1/api-keys.")
	ErrNoServiceAccount  = errs.New(errs.NotFound, "auth.service_account_not_found", "there is no such service account")

	ErrUserNotFound   = errs.New(errs.NotFound, "auth.user_not_found", "there is no such user")
	ErrTenantNotFound = errs.New(errs.NotFound, "auth.tenant_not_found", "there is no such tenant")
	// ErrAuditNotFound also answers for records of other tenants.
	ErrAuditNotFound   = errs.New(errs.NotFound, "auth.audit_record_not_found", "there is no such audit record")
	ErrSessionNotFound = errs.New(errs.NotFound, "auth.session_not_found", "there is no such session")
	ErrUnknownRole     = errs.New(errs.Invalid, "auth.unknown_role", "there is no such role in the tenant").
				WithAction("GET /api/v1/roles lists those there are.")

	ErrRoleNotFound    = errs.New(errs.NotFound, "auth.role_not_found", "there is no such role")
	ErrBindingNotFound = errs.New(errs.NotFound, "auth.role_binding_not_found", "there is no such role binding")
	// ErrPrincipalNotFound answers for principals that are not there and for those that are none of the caller's business.
	ErrPrincipalNotFound = errs.New(errs.NotFound, "auth.principal_not_found", "there is no such principal")

	ErrRoleExists  = errs.New(errs.Conflict, "auth.role_exists", "a role of this name exists")
	ErrRoleBuiltIn = errs.New(errs.Conflict, "auth.role_built_in", "built-in roles do not change").
			WithAction("Make a role of your own: POST /api/v1/roles.")
	ErrRoleInUse = errs.New(errs.Conflict, "auth.role_in_use", "somebody has the role").
			WithAction("Take it from them first; GET /api/v1/role-bindings and GET /api/v1/users show who has it.")
	ErrTooManyRoles = errs.New(errs.Conflict, "auth.too_many_roles", "the tenant has as many roles of its own as it may have").
			WithAction("Delete one that nobody has.")
	ErrInvalidPermission = errs.New(errs.Invalid, "auth.invalid_permission", "it is not a permission").
				WithAction("GET /api/v1/permissions lists those there are.")
	ErrBindingExists = errs.New(errs.Conflict, "auth.role_binding_exists", "the principal has the role there already")
	ErrBinding       = errs.New(errs.Invalid, "auth.invalid_role_binding", "the role cannot be bound like this")
	// ErrNoRole answers for tenants that are not there, that are disabled, and that are none of the caller's business.
	ErrNoRole = errs.New(errs.Forbidden, "auth.no_role_in_tenant", "you hold no permission in that tenant").
			WithAction("GET /api/v1/me/tenants lists the tenants that you can act in.")
	ErrNesting = errs.New(errs.Conflict, "auth.tenant_nesting", "a project cannot have projects").
			WithAction("Give it the organisation as its parent.")
	ErrTenantDisabled = errs.New(errs.Conflict, "auth.tenant_disabled", "the tenant is disabled").
				WithAction("Enable it first.")
	ErrTenantNotEmpty = errs.New(errs.Conflict, "auth.tenant_not_empty", "the tenant still has objects").
				WithAction("Delete them first, then the tenant.")
	ErrTenantUnknown = errs.New(errs.Conflict, "auth.tenant_objects_unknown", "whether the tenant still has objects cannot be told").
				WithAction("Try again when the module that is named answers.").WithRetryable(true)
	ErrRegistrationOff = errs.New(errs.Forbidden, "auth.registration_off", "nobody can register here by themselves").
				WithAction("Ask an administrator for an account.")

	ErrUsernameTaken = errs.New(errs.Conflict, "auth.username_taken", "the user name is taken")
	ErrEmailTaken    = errs.New(errs.Conflict, "auth.email_taken", "the e-mail address belongs to another user")
	ErrTenantExists  = errs.New(errs.Conflict, "auth.tenant_exists", "a tenant of this name exists")
	ErrLastAdmin     = errs.New(errs.Conflict, "auth.last_admin", "this is the last account that can administer the installation").
				WithAction("Give another enabled user the role admin first.")
	ErrOwnTenant   = errs.New(errs.Conflict, "auth.own_tenant", "you cannot disable or delete the tenant that you are or act in")
	ErrOwnPassword = errs.New(errs.Conflict, "auth.own_password", "your own password is changed with the current one").
			WithAction("Use PUT /api/v1/me/password.")
	ErrVersion = errs.New(errs.Precondition, "auth.version_mismatch", "the object has changed since you read it").
			WithAction("Read it again and repeat the change.")

	ErrGrantExceedsOwn = errs.New(errs.Forbidden, "auth.grant_exceeds_own", "nobody can grant, or act on who holds, a permission they lack themselves")
	ErrPlatformOnly    = errs.New(errs.Forbidden, "auth.platform_only", "this needs a role that reaches every tenant")

	// ErrMFAToken answers for a login that was never begun, has ended, took too long, or had too many wrong codes.
	ErrMFAToken = errs.New(errs.Unauthenticated, "auth.mfa_token_invalid", "the login that waits for a second factor has ended").
			WithAction("Begin again: POST /auth/login.")
	ErrMFACode = errs.New(errs.Unauthenticated, "auth.mfa_code_wrong", "the code is wrong, or was used before").
			WithAction("Wait for the next code of the app, see that the phone's clock is right, or use a recovery code.")
	ErrWrongCode = errs.New(errs.Invalid, "auth.wrong_code", "the code is wrong, or was used before").
			WithAction("Wait for the next code of the app, and see that the phone's clock is right.")
	ErrMFANotPending = errs.New(errs.Conflict, "auth.mfa_not_pending", "no authenticator app waits to be confirmed").
				WithAction("POST /api/v1/me/mfa/enrol begins; there are ten minutes to confirm it.")
	ErrMFAOff      = errs.New(errs.Conflict, "auth.mfa_off", "there is no second factor").WithAction("POST /api/v1/me/mfa/enrol begins to set one up.")
	ErrMFARequired = errs.New(errs.Conflict, "auth.mfa_required", "your tenant or your role asks for a second factor").
			WithAction("To use another phone, enrol again: the new app replaces the old one.")
	ErrOwnMFA = errs.New(errs.Conflict, "auth.own_mfa", "your own second factor is taken away with your password or a code").
			WithAction("Use POST /api/v1/me/mfa/disable.")
	ErrReauthenticate = errs.New(errs.Forbidden, "auth.reauthentication_required", "that takes your password, or a code, once more").
				WithAction("Send password or code with the request.")
	ErrMFAUnreadable = errs.New(errs.Unavailable, "auth.mfa_unreadable", "the secret of the authenticator app cannot be read").
				WithAction("Log in with a recovery code, or have an administrator reset your second factor. The operator finds the cause in the log of the auth module.").WithRetryable(false)

	// ErrResetToken answers for links that never were, were used, have expired, or were replaced by a later one.
	ErrResetToken = errs.New(errs.Invalid, "auth.reset_token_invalid", "the link does not work, or no longer").
			WithAction("Ask for another one. Only the last one works, once, and for a limited time.")
	ErrMailOff = errs.New(errs.Conflict, "auth.mail_off", "this installation sends no mail").
			WithAction("Ask an administrator: they can give you a one-time password or a link.")

	ErrWeakPassword  = errs.New(errs.Invalid, "auth.weak_password", "the password is not acceptable")
	ErrWrongPassword = errs.New(errs.Invalid, "auth.wrong_password", "the current password is wrong")
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{
		ErrInvalidToken, ErrTokenExpired, ErrSessionRevoked, ErrSessionExpired, ErrInvalidCredentials, ErrThrottled, ErrBusy, ErrUnavailable,
		ErrRoleNotFound, ErrBindingNotFound, ErrPrincipalNotFound, ErrRoleExists, ErrRoleBuiltIn, ErrRoleInUse, ErrTooManyRoles,
		ErrInvalidPermission, ErrBindingExists, ErrBinding, ErrNoRole, ErrNesting, ErrTenantDisabled, ErrTenantNotEmpty, ErrTenantUnknown,
		ErrRegistrationOff,
		ErrUserNotFound, ErrTenantNotFound, ErrSessionNotFound, ErrUnknownRole, ErrUsernameTaken, ErrEmailTaken, ErrTenantExists,
		ErrLastAdmin, ErrOwnTenant, ErrOwnPassword, ErrVersion, ErrGrantExceedsOwn, ErrPlatformOnly, ErrWeakPassword, ErrWrongPassword,
		ErrMFAToken, ErrMFACode, ErrWrongCode, ErrMFANotPending, ErrMFAOff, ErrMFARequired, ErrOwnMFA, ErrReauthenticate, ErrMFAUnreadable,
		ErrResetToken, ErrMailOff,
		ErrInvalidAPIKey, ErrAPIKeyExpired, ErrAPIKeyRevoked, ErrLoginNeeded, ErrAPIKeyNotFound, ErrTooManyAPIKeys, ErrTooManySecrets,
		ErrInvalidAPIKeySpec, ErrServiceAccount, ErrNoServiceAccount, ErrAuditNotFound,
	}
}
