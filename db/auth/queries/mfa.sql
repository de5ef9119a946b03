-- name: TotpGet :one
SELECT * FROM mfa_totp WHERE user_id = @user_id;

-- name: TotpGetForUpdate :one
SELECT * FROM mfa_totp WHERE user_id = @user_id FOR UPDATE;

-- TotpPropose keeps a secret that is not confirmed yet, in place of an older one.
-- name: TotpPropose :exec
INSERT INTO mfa_totp (user_id, pending_secret, pending_until) VALUES (@user_id, @secret, @until)
ON CONFLICT (user_id) DO UPDATE SET pending_secret = @secret, pending_until = @until;

-- TotpConfirm puts the secret that waits in force. The code that confirmed it counts as used.
-- name: TotpConfirm :exec
UPDATE mfa_totp SET secret = pending_secret, enabled_at = @now::timestamptz, last_step = @step, pending_secret = NULL, pending_until = NULL
WHERE user_id = @user_id;

-- TotpUse notes that the code of a time step was used; no row changed means that it or a later one had been.
-- name: TotpUse :execrows
UPDATE mfa_totp SET last_step = @step WHERE user_id = @user_id AND secret IS NOT NULL AND last_step < @step;

-- name: TotpDelete :execrows
DELETE FROM mfa_totp WHERE user_id = @user_id;

-- name: UserSetMFA :exec
UPDATE users SET mfa_enabled = @enabled, version = version + 1, updated_at = @now WHERE id = @id;

-- name: RecoveryInsert :exec
INSERT INTO mfa_recovery_codes (user_id, code_hash) SELECT @user_id, unnest(@code_hashes::bytea[]);

-- RecoveryUse removes a code; no row changed means that there was none.
-- name: RecoveryUse :execrows
DELETE FROM mfa_recovery_codes WHERE user_id = @user_id AND code_hash = @code_hash;

-- name: RecoveryClear :exec
DELETE FROM mfa_recovery_codes WHERE user_id = @user_id;

-- name: RecoveryCount :one
SELECT count(*) FROM mfa_recovery_codes WHERE user_id = @user_id;

-- name: ChallengeInsert :exec
INSERT INTO mfa_challenges (token_hash, user_id, password_changed_at, expires_at) VALUES (@token_hash, @user_id, @password_changed_at, @expires_at);

-- name: ChallengeGet :one
SELECT * FROM mfa_challenges WHERE token_hash = @token_hash;

-- name: ChallengeGetForUpdate :one
SELECT * FROM mfa_challenges WHERE token_hash = @token_hash FOR UPDATE;

-- ChallengeFail counts a wrong code.
-- name: ChallengeFail :exec
UPDATE mfa_challenges SET failures = failures + 1 WHERE token_hash = @token_hash;

-- name: ChallengeDelete :exec
DELETE FROM mfa_challenges WHERE token_hash = @token_hash;

-- name: ChallengeClear :exec
DELETE FROM mfa_challenges WHERE user_id = @user_id;

-- name: ChallengePrune :execrows
DELETE FROM mfa_challenges WHERE expires_at < @before;

-- MFAOwed tells whether a person has no second factor although one is asked of who holds the roles in a tenant: there, in its organisation, or
-- everywhere. Service accounts cannot log in, so nothing is asked of them.
-- name: MFAOwed :one
SELECT (EXISTS (SELECT 1 FROM users u WHERE u.id = @user_id AND u.kind = 'human' AND NOT u.mfa_enabled) AND EXISTS (
    SELECT 1 FROM mfa_requirements m LEFT JOIN tenants t ON t.id = @tenant_id
    WHERE (m.tenant_id IS NULL OR m.tenant_id = t.id OR m.tenant_id = t.parent_id)
      AND (m.role IS NULL OR m.role = ANY(@roles::text[]))
))::boolean;

-- MFAAsked tells whether a second factor is asked of who holds the roles in a tenant, whether they have one or not.
-- name: MFAAsked :one
SELECT EXISTS (
    SELECT 1 FROM mfa_requirements m LEFT JOIN tenants t ON t.id = @tenant_id
    WHERE (m.tenant_id IS NULL OR m.tenant_id = t.id OR m.tenant_id = t.parent_id)
      AND (m.role IS NULL OR m.role = ANY(@roles::text[]))
)::boolean;

-- MFARequirements lists what is required in a tenant itself; null is everywhere.
-- name: MFARequirements :many
SELECT role FROM mfa_requirements WHERE tenant_id IS NOT DISTINCT FROM sqlc.narg(tenant_id)::uuid ORDER BY role NULLS FIRST;

-- name: MFARequirementClear :exec
DELETE FROM mfa_requirements WHERE tenant_id IS NOT DISTINCT FROM sqlc.narg(tenant_id)::uuid;

-- name: MFARequirementInsert :exec
INSERT INTO mfa_requirements (id, tenant_id, role, created_at) VALUES (@id, sqlc.narg(tenant_id), sqlc.narg(role), @now);

-- MFAPolicyLock makes changes of the requirements one at a time.
-- name: MFAPolicyLock :exec
SELECT pg_advisory_xact_lock(hashtextextended('novacron.auth.mfa_policy', 0));
