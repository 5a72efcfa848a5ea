// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// RLIMIT_NOFILE of this process. Files and eventfds of clients take a descriptor of the server
/// each.
package enum DescriptorLimit {
  private static let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)

  /// The soft limit: descriptor numbers are below it. 0 when getrlimit() fails.
  package static var soft: UInt64 {
    var limit = rlimit()
    return getrlimit(resource, &limit) == 0 ? UInt64(limit.rlim_cur) : 0
  }

  /// The number of descriptors that this process may hold for its clients.
  package static var forClients: Int { Int(clamping: soft / 4 * 3) }

  /// Sets the soft limit to the hard limit, or to `most` when the hard limit is higher.
  package static func useHardLimit(atMost most: UInt64 = .max) {
    var limit = rlimit()
    guard getrlimit(resource, &limit) == 0 else { return }
    limit.rlim_cur = min(limit.rlim_max, rlim_t(most))
    setrlimit(resource, &limit)
  }
}
