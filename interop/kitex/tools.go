//go:build tools

package tools

import _ "github.com/cloudwego/kitex/tool/cmd/kitex"
