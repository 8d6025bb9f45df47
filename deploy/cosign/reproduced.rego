# For `cosign verify-attestation --type https://slsa.dev/verification_summary/v1 --policy deploy/cosign/reproduced.rego`:
# the attestation says that the image, or every image of the index, was reproduced, by enough operators, not long ago.
#
# cosign asks `data.signature.allow` about every statement of the type that its key signed, and all of them must pass:
# a stale one beside a new one denies. Assay replaces its own, so there is one.
package signature

import rego.v1

# Whose statements the key may sign: the `verifier_id` of coordinator.toml.
verifiers := {"https://assay.example/coordinator"}

# Distinct operators that must have rebuilt it, whatever the fleet's own policy asked for.
operators_min := 2

age_max_days := 30

# On one platform's image, or on an index all of whose images were reproduced. A layer that was only compressed
# otherwise is ASSAY_CONFIG_REPRODUCED: add it here where that is enough.
good_levels := {"SLSA_BUILD_REPRODUCED", "ASSAY_ALL_PLATFORMS_REPRODUCED"}

default allow := false

allow if {
	input.predicateType == "https://slsa.dev/verification_summary/v1"
	summary := input.predicate
	summary.verificationResult == "PASSED"
	summary.verifier.id in verifiers
	some level in summary.verifiedLevels
	level in good_levels
	enough_operators(summary.verifiedLevels)
	fresh(summary.timeVerified)
}

enough_operators(levels) if {
	some level in levels
	numbers := regex.find_all_string_submatch_n(`^ASSAY_REPRODUCED_([0-9]+)_OF_[0-9]+$`, level, 1)
	to_number(numbers[0][1]) >= operators_min
}

fresh(moment) if {
	age_seconds := (time.now_ns() - time.parse_rfc3339_ns(moment)) / 1000000000
	age_seconds < age_max_days * 86400

	# Clocks differ; not by more than five minutes.
	age_seconds > -300
}
