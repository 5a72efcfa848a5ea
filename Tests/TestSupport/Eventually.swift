// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Evaluates the condition until it is true, for at most ten seconds, because another thread makes
/// it true.
package func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
  for _ in 0..<10_000 {
    if try condition() { return true }
    usleep(1_000)
  }
  return try condition()
}
