// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import UAPI

extension UserMemory {
  /// The path name, a C string, at `address`. `nil` when the string cannot be read or is longer
  /// than PATH_MAX: the kernel then answers with the right errno.
  func loadPath(at address: UInt64) -> String? {
    let (limit, step) = (Int(PATH_MAX), 256)
    return withUnsafeTemporaryAllocation(byteCount: limit, alignment: 1) { buffer in
      var count = 0
      while count < limit {
        let (next, overflow) = address.addingReportingOverflow(UInt64(count))
        if overflow { return nil }
        // A read never crosses a page boundary, because the page after the string may be unmapped.
        let piece = min(step, 4096 - Int(next % 4096), limit - count)
        let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[count..<count + piece])
        do { try copyIn(from: next, into: chunk) } catch { return nil }
        if let end = chunk.firstIndex(of: 0) {
          return String(decoding: buffer[..<(count + end)], as: UTF8.self)
        }
        count += piece
      }
      return nil
    }
  }
}
