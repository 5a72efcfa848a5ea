// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// Records how deep the stack is when a callback runs, so that a test can see that a call needs no
/// more stack than the call before.
package final class StackDepth: Sendable {
  private struct Range {
    var lowest = UInt.max
    var highest: UInt = 0
  }

  private let range = Mutex(Range())

  package init() {}

  /// Records the depth of the caller.
  @inline(never)
  package func record() {
    var local: UInt8 = 0
    let address = withUnsafeMutablePointer(to: &local) { UInt(bitPattern: $0) }
    range.withLock { range in
      range.lowest = min(range.lowest, address)
      range.highest = max(range.highest, address)
    }
  }

  /// The bytes between the deepest and the shallowest recorded call.
  package var spread: UInt {
    range.withLock { $0.highest >= $0.lowest ? $0.highest - $0.lowest : 0 }
  }
}

/// Calls `body` often and returns which costs grow: the stack at `depth` must stay as it is in the
/// first calls, the process must grow by less than 16 MiB, and the last tenth must be about as fast
/// as the first. Other tests run in the process at the same time and need memory, too, but a call
/// that leaks does so in each tenth: the growth is ten times the median.
/// - Parameter calls: The number of calls. The environment variable REPEATED_CALLS multiplies it.
/// - Returns: A sentence for each cost that grows.
package func growingCosts(
  of calls: Int, _ depth: StackDepth, _ body: () throws -> Void
) rethrows -> [String] {
  let factor = getenv("REPEATED_CALLS").flatMap { Int(String(cString: $0)) }
  let tenth = calls / 10 * (factor ?? 1)
  var times: [Duration] = []
  var pages: [Int] = []
  for _ in 0..<10 {
    times.append(
      try ContinuousClock().measure {
        for _ in 0..<tenth where depth.spread <= 4096 { try body() }
      })
    pages.append(residentPages())
  }
  let growth = zip(pages.dropFirst(), pages).map { $0 - $1 }.sorted()[4] * 10
  if factor != nil { print("\(tenth * 10) calls, \(times[0]) … \(times[9]), \(growth) pages more") }
  var problems: [String] = []
  if depth.spread > 4096 { problems.append("a call needs more stack than the call before") }
  if times[9] > times[0] * 4 + .milliseconds(500) { problems.append("the times are \(times)") }
  if growth > 4096 { problems.append("the process grew by \(growth) pages") }
  return problems
}

/// The number of resident pages of this process.
private func residentPages() -> Int {
  guard let file = fopen("/proc/self/statm", "r") else { return 0 }
  defer { fclose(file) }
  var line = [UInt8](repeating: 0, count: 128)
  let count = fread(&line, 1, line.count, file)
  let words = String(decoding: line.prefix(count), as: UTF8.self).split(separator: " ")
  return words.count > 1 ? Int(words[1]) ?? 0 : 0
}
