// Package v20170312 stands in for a library that flannel's daemon links and, outside of one cloud, never calls.
package v20170312

import "errors"

// Client cannot be made.
type Client struct{}

// Filter has the fields that flannel names.
type Filter struct {
	Name   *string
	Values []*string
}

// Route has the fields that flannel names.
type Route struct {
	RouteId                                                 *uint64
	DestinationCidrBlock, GatewayId, GatewayType, RouteType *string
	Enabled                                                 *bool
}

// RouteTable has the fields that flannel names.
type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

// DescribeRouteTablesRequest has the fields that flannel names.
type DescribeRouteTablesRequest struct{ Filters []*Filter }

// DescribeRouteTablesResponse has the fields that flannel names.
type DescribeRouteTablesResponse struct {
	Response struct{ RouteTableSet []*RouteTable }
}

// RoutesRequest is the library's requests that name routes, and their answers.
type RoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

var errStandIn = errors.New("a stand-in was called")

func NewClientWithSecretId(_, _, _ string) (*Client, error)      { return nil, errStandIn }
func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest { return &DescribeRouteTablesRequest{} }
func NewDeleteRoutesRequest() *RoutesRequest                     { return &RoutesRequest{} }
func NewCreateRoutesRequest() *RoutesRequest                     { return &RoutesRequest{} }
func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, errStandIn
}
func (*Client) DeleteRoutes(*RoutesRequest) (*RoutesRequest, error) { return nil, errStandIn }
func (*Client) CreateRoutes(*RoutesRequest) (*RoutesRequest, error) { return nil, errStandIn }
