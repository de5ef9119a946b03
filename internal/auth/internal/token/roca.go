package token

import "math/big"

// guessable tells whether a modulus has the form of keys that a widespread library made badly, so that their factors can be computed
// (CVE-2017-15361): modulo each small prime it is a power of 65537. Of other keys one in 2^27 looks like that. See Nemec, Sys, Svenda,
// Klinec, Matyas: The Return of Coppersmith's Attack, ACM CCS 2017, section 2.3.
func guessable(n *big.Int) bool {
	const generator, lastPrime = 65537, 167
	for p := int64(3); p <= lastPrime; p += 2 {
		if !big.NewInt(p).ProbablyPrime(0) {
			continue
		}
		remainder := new(big.Int).Mod(n, big.NewInt(p)).Int64()
		found := false
		for power := int64(1); ; {
			found = found || power == remainder
			if power = power * generator % p; power == 1 {
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}
