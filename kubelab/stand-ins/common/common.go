// Package common stands in for a library that flannel's daemon links and, outside of one cloud, never calls.
package common

// StringPtr is as in the library.
func StringPtr(s string) *string { return &s }

// BoolPtr is as in the library.
func BoolPtr(b bool) *bool { return &b }

// StringPtrs is never called.
func StringPtrs([]string) []*string { return nil }
