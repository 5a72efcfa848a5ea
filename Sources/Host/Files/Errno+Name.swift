internal import CLinux
package import SystemPackage

extension Errno {
  /// The name a C programmer knows, "EINVAL"; a number without a name is "errno 4242".
  package var symbol: String {
    guard let name = CLinux_errno_name(rawValue) else { return "errno \(rawValue)" }
    return String(cString: name)
  }
}
