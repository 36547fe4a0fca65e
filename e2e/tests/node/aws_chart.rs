//! The manifests of AWS's chart, with only the image changed.
