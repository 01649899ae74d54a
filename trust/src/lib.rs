//! What an auditor reads: envelopes, statements, keys, trust policy, verify. No I/O, no async, no clock.
