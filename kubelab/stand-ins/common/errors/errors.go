// Package errors stands in for a library that flannel's daemon links and, outside of one cloud, never calls.
package errors

// TencentCloudSDKError is never made.
type TencentCloudSDKError struct{}

func (*TencentCloudSDKError) Error() string { return "a stand-in was called" }
