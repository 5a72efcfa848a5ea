// SPDX-License-Identifier: Apache-2.0

import SystemPackage

/// Returns the errno that `body` throws, or `nil` when it returns.
func failure(of body: () throws(Errno) -> Void) -> Errno? {
  do throws(Errno) {
    try body()
    return nil
  } catch {
    return error
  }
}
