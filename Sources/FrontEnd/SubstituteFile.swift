// SPDX-License-Identifier: Apache-2.0

package import Host
package import SystemPackage

/// What a device gets when a client passes a descriptor of one of our own nodes where memory or an
/// eventfd is expected.
///
/// A device must not hold a copy of such a descriptor: the copy would keep the node's file open,
/// and an iommufd that maps itself would stay when its last client is gone.
package enum SubstituteFile {
  /// Opens a file that no device has a use for: neither memory nor an eventfd.
  package static func open() throws(Errno) -> OwnedDescriptor { try EpollSet().descriptor }
}
