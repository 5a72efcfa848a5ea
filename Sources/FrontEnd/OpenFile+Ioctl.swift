// SPDX-License-Identifier: Apache-2.0

package import SystemPackage
package import UAPI

extension OpenFile {
  /// Checks that the file serves ioctls of the caller's ABI (fs: compat_sys_ioctl()).
  /// - Parameter isCompat: whether the caller is a 32-bit program on a 64-bit kernel.
  /// - Throws: `.inappropriateIOCTLForDevice`.
  package func checkIoctl(isCompat: Bool) throws(Errno) {
    if isCompat, !hasCompatIoctl { throw .inappropriateIOCTLForDevice }
  }
}
