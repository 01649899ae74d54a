//! Nouns of the OCI specifications: digests, names, manifests, layouts, the distribution client, runtime bundles.
