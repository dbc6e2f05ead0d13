// The client with Boost.Beast, synchronous.
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <chrono>
#include <iostream>
#include <map>
#include <string>
#include <thread>

namespace beast = boost::beast;
namespace websocket = beast::websocket;
using tcp = boost::asio::ip::tcp;

// The number after the last `"name":`; the event's own id comes after the message.
static bool number(const std::string &text, const std::string &name, long long &value) {
    const std::string key = "\"" + name + "\":";
    const auto at = text.rfind(key);
    if (at == std::string::npos || !isdigit(text[at + key.size()])) return false;
    value = std::stoll(text.substr(at + key.size(), 20));
    return true;
}

// The reading habits that the command line asks for; README.md describes them.
struct Reader {
    std::string mode;
    long long count, pause_ms, received = 0, pending = -1;

    // Reports one event and pauses; true once the client is to close.
    bool take(const std::string &text) {
        long long value;
        if (text.find("\"type\":\"connection_status\"") != std::string::npos) {
            if (number(text, "pending", pending)) std::cout << "status " << pending << std::endl;
        } else if (number(text, "id", value)) {
            received += 1;
            std::cout << "id " << value << std::endl;
            if (mode == "slow" || (mode == "block" && received == count))
                std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
        }
        if (mode == "close") return pending >= 0 && received >= pending;
        return mode == "drain" && count > 0 && received >= count;
    }
};

int main(int size, char **arguments) {
    std::map<std::string, std::string> options{{"--count", "0"}, {"--pause-ms", "0"}};
    for (int at = 1; at + 1 < size; at += 2) options[arguments[at]] = arguments[at + 1];
    Reader reader{options["--mode"], std::stoll(options["--count"]), std::stoll(options["--pause-ms"])};

    const std::string address = options["--url"].substr(std::string("ws://").size());
    const std::string host = address.substr(0, address.find('/')), target = address.substr(address.find('/'));
    const auto colon = host.rfind(':');

    boost::asio::io_context context;
    tcp::resolver resolver(context);
    websocket::stream<tcp::socket> stream(context);
    boost::asio::connect(stream.next_layer(), resolver.resolve(host.substr(0, colon), host.substr(colon + 1)));
    stream.handshake(host, target);

    beast::error_code error;
    bool finished = false;
    while (!finished) {
        beast::flat_buffer buffer;
        stream.read(buffer, error);
        if (error) break;
        finished = reader.take(beast::buffers_to_string(buffer.data()));
    }
    int code = 1006;
    if (finished) {
        stream.close(websocket::close_code::normal, error);
        code = 1000;
    } else if (error == websocket::error::closed) {
        code = stream.reason().code;
    }
    std::cout << "closed " << code << std::endl;
}
