//! Admission by cases.
