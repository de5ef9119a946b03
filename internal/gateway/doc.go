// Package gateway is the contract of the gateway module: the front door that every REST request enters by. Other modules do not call it, so
// it holds only what the gateway itself shows of the installation, and its errors. It is a leaf.
package gateway
