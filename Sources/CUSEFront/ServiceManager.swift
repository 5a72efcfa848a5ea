// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The service manager that started this process (systemd).
enum ServiceManager {
  /// Sends `state` as one datagram to the socket that NOTIFY_SOCKET names (sd_notify(3)). Does
  /// nothing without that variable.
  static func notify(_ state: String) {
    guard let variable = getenv("NOTIFY_SOCKET") else { return }
    var name = Array(String(cString: variable).utf8)
    var address = sockaddr_un()
    let capacity = MemoryLayout.size(ofValue: address.sun_path)
    guard let first = name.first, name.count < capacity else { return }
    if first == UInt8(ascii: "@") { name[0] = 0 }  // an abstract name
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + name.count)
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        _ = sendto(descriptor, state, state.utf8.count, 0, address, length)
      }
    }
  }
}
