// SPDX-License-Identifier: Apache-2.0

package import UAPI

/// A device node that programs see under /dev.
package struct DeviceNode: Sendable {
  /// Absolute paths. The first one is the canonical name.
  package let paths: [String]
  /// The device number that stat(2) shows as st_rdev.
  package let major: UInt32
  package let minor: UInt32
  package let device: any CharacterDevice

  package init(paths: [String], major: UInt32, minor: UInt32, device: any CharacterDevice) {
    self.paths = paths
    self.major = major
    self.minor = minor
    self.device = device
  }
}
