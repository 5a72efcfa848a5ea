// SPDX-License-Identifier: Apache-2.0

internal import CLinux
package import SystemPackage

extension Errno {
  /// The name of the errno, as in "EINVAL". A number without a name is written as in "errno 4242".
  package var symbol: String {
    guard let name = CLinux_errno_name(rawValue) else { return "errno \(rawValue)" }
    return String(cString: name)
  }
}
