module interop/apache

go 1.24

require github.com/apache/thrift v0.22.0
